// Command blocks serves the bytes of HTTP/2 clients by grpc-go, and prints which methods were called.
//
// A line of its input is what one client sends, in base64, after a `!` if its last frame is incomplete. For each it prints a line of JSON, once all was read: the methods that
// grpc-go has accepted a call of, and what the server has sent, in base64 too.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// The PING behind what a client sends: its answer shows that the server has read all before it.
var (
	ping = []byte("\x00\x00\x08\x06\x00\x00\x00\x00\x00blocks!!")
	pong = []byte("\x00\x00\x08\x06\x01\x00\x00\x00\x00blocks!!")
)

type result struct {
	Methods [][]byte `json:"methods"`
	Sent    []byte   `json:"sent"`
}

// calls has the methods of the current connection. grpc-go calls the tap for each call that it accepts, before it reads on, and
// the handler of a call with the same method.
type calls struct {
	sync.Mutex
	methods [][]byte
}

func (c *calls) tapped(ctx context.Context, info *tap.Info) (context.Context, error) {
	c.Lock()
	defer c.Unlock()
	c.methods = append(c.methods, []byte(info.FullMethodName))
	return ctx, nil
}

func (c *calls) take() [][]byte {
	c.Lock()
	defer c.Unlock()
	methods := c.methods
	c.methods = nil
	return append([][]byte{}, methods...)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	listener := &pipes{accepted: make(chan net.Conn)}
	seen := &calls{}
	server := grpc.NewServer(
		grpc.InTapHandle(seen.tapped),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.OK, "") }),
	)
	go server.Serve(listener)
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line, isCut := bytes.CutPrefix(bytes.TrimSpace(line), []byte("!"))
		client, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil {
			return err
		}
		sent := listener.serve(client, isCut)
		if err := output.Encode(result{Methods: seen.take(), Sent: sent}); err != nil {
			return err
		}
	}
}

// pipes is a listener of connections within this process.
type pipes struct {
	accepted chan net.Conn
}

func (p *pipes) Accept() (net.Conn, error) { return <-p.accepted, nil }
func (p *pipes) Close() error              { return nil }
func (p *pipes) Addr() net.Addr            { return address }

var address = &net.UnixAddr{Name: "client", Net: "unix"}

// serve has a connection served until the server has answered the PING or closed it, or, if the client is cut off, has read all of
// it. Returns what the server has sent.
func (p *pipes) serve(client []byte, isCut bool) []byte {
	c := &connection{unread: client, isCut: isCut, done: make(chan struct{})}
	if !isCut {
		c.unread = append(c.unread, ping...)
	}
	p.accepted <- c
	<-c.done
	c.Lock()
	defer c.Unlock()
	return c.sent
}

// connection is a connection whose client has sent everything already. It ends with the answer to the PING.
type connection struct {
	sync.Mutex
	unread []byte
	isCut  bool
	sent   []byte
	closed sync.Once
	done   chan struct{}
}

func (c *connection) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		if !c.isCut {
			<-c.done
		}
		return 0, io.EOF
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *connection) Write(b []byte) (int, error) {
	c.Lock()
	c.sent = append(c.sent, b...)
	isOver := bytes.Contains(c.sent[max(0, len(c.sent)-len(b)-len(pong)):], pong)
	c.Unlock()
	if isOver {
		c.Close()
	}
	return len(b), nil
}

func (c *connection) Close() error {
	c.closed.Do(func() { close(c.done) })
	return nil
}

func (c *connection) LocalAddr() net.Addr              { return address }
func (c *connection) RemoteAddr() net.Addr             { return address }
func (c *connection) SetDeadline(time.Time) error      { return nil }
func (c *connection) SetReadDeadline(time.Time) error  { return nil }
func (c *connection) SetWriteDeadline(time.Time) error { return nil }
