package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// settingsFrame is an empty SETTINGS frame, as Gitaly's clients send it; with flag 1 it is the acknowledgement.
func settingsFrame(flags byte) []byte { return []byte{0, 0, 0, 4, flags, 0, 0, 0, 0} }

const (
	preface            = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeaderBytes   = 9
	frameTypeSettings  = 4
	maxSettingsPayload = 1024
)

// openHTTP2 does what a gRPC connection does before its first call: handshake, preface and SETTINGS both ways. The
// server's SETTINGS come from the backend through a relay, so the proxy has dialled by then; a proxy that speaks
// HTTP/2 itself answers without dialling.
func openHTTP2(ctx context.Context, to *target) (net.Conn, error) {
	conn, err := to.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := exchangeSettings(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func exchangeSettings(conn net.Conn) error {
	if _, err := conn.Write(append([]byte(preface), settingsFrame(0)...)); err != nil {
		return err
	}
	header := make([]byte, frameHeaderBytes)
	if _, err := io.ReadFull(conn, header); err != nil {
		return err
	}
	length := int(header[0])<<16 | int(header[1])<<8 | int(header[2])
	if header[3] != frameTypeSettings || length > maxSettingsPayload {
		return fmt.Errorf("the first frame is of type %d and %d bytes, not SETTINGS", header[3], length)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(length)); err != nil {
		return err
	}
	_, err := conn.Write(settingsFrame(1))
	return err
}

// openIdle opens n connections a few at a time and keeps them.
func openIdle(ctx context.Context, to *target, n, workers int) ([]net.Conn, error) {
	kept := make(chan net.Conn, n)
	_, err := measure(workers, budget{operations: int64(n)}, func(int) (int64, error) {
		conn, err := openHTTP2(ctx, to)
		if err == nil {
			kept <- conn
		}
		return 0, err
	})
	close(kept)
	open := make([]net.Conn, 0, n)
	for conn := range kept {
		open = append(open, conn)
	}
	if err == nil && len(open) != n {
		err = errors.New("not all connections were opened")
	}
	return open, err
}
