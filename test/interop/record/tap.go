package main

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

// Chunk is what one read of the tap gave.
type Chunk struct {
	From string `json:"from"`
	// At is in milliseconds since the tap was started.
	At    float64 `json:"at"`
	Bytes []byte  `json:"bytes"`
}

const (
	fromClient = "client"
	fromServer = "server"
)

// tap passes the bytes of one connection on and keeps them, in the order in which it read them.
type tap struct {
	listener net.Listener
	started  time.Time
	mutex    sync.Mutex
	chunks   []Chunk
	client   net.Conn
	done     chan struct{}
	err      error
}

// startTap listens for one client, which it connects with upstream.
func startTap(upstream string) (*tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tap := &tap{listener: listener, started: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(tap.done)
		tap.err = tap.run(upstream)
	}()
	return tap, nil
}

func (t *tap) run(upstream string) error {
	client, err := t.listener.Accept()
	if err := errors.Join(err, t.listener.Close()); err != nil {
		return err
	}
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	t.mutex.Lock()
	t.client = client
	t.mutex.Unlock()
	var directions sync.WaitGroup
	directions.Go(func() { t.pass(fromClient, client, server) })
	directions.Go(func() { t.pass(fromServer, server, client) })
	directions.Wait()
	return nil
}

// pass ends with either end of the connection, which is how every capture ends.
func (t *tap) pass(from string, source, sink net.Conn) {
	buffer := make([]byte, 64*1024)
	for {
		n, err := source.Read(buffer)
		if n > 0 {
			t.keep(from, buffer[:n])
			_, failed := sink.Write(buffer[:n])
			err = errors.Join(err, failed)
		}
		if err != nil {
			_ = errors.Join(source.Close(), sink.Close())
			return
		}
	}
}

// keep is called before the bytes are passed on, so that an answer never stands before what it answers.
func (t *tap) keep(from string, bytes []byte) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	at := math.Round(time.Since(t.started).Seconds()*1e6) / 1e3
	t.chunks = append(t.chunks, Chunk{From: from, At: at, Bytes: append([]byte{}, bytes...)})
}

// cut ends the connection: the client's side here, the server's by what follows from it.
func (t *tap) cut() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.client.Close()
}

// all waits until the connection has ended and gives what was kept.
func (t *tap) all() ([]Chunk, error) {
	<-t.done
	if t.err != nil && !errors.Is(t.err, io.EOF) {
		return nil, t.err
	}
	return t.chunks, nil
}
