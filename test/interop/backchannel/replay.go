package backchannel

import (
	"fmt"
	"io"
	"net"
)

// readMagic reads exactly as many bytes as a magic word has, however they are split.
func readMagic(conn net.Conn) (string, error) {
	var magic [magicBytes]byte
	if _, err := io.ReadFull(conn, magic[:]); err != nil {
		return "", fmt.Errorf("first %d bytes: %w", magicBytes, err)
	}
	return string(magic[:]), nil
}

// replayed is a connection whose first bytes have been read already: they are read once more.
type replayed struct {
	net.Conn
	head []byte
}

func (c *replayed) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// owned is a yamux stream that closes the whole connection with itself, in the order given.
type owned struct {
	net.Conn
	close func() error
}

func (c *owned) Close() error { return c.close() }
