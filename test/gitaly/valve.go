package gitaly

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// valveBytes is what a valve lets pass in each direction before it shuts: much less than a long clone or push, so that what all
// buffers on the way hold is not the rest of it, and more than a client sends to clone.
const valveBytes = 1 << 20

// Valve stands between a client and a server and keeps back what either sends after the first bytes, until it is opened:
// a clone or a push through it is under way for as long as a test wants.
type Valve struct {
	Address string
	// Shut is closed when bytes wait.
	Shut chan struct{}

	shut sync.Once
	open chan struct{}
}

// NewValve forwards connections to target, as host and port.
func NewValve(t testing.TB, target string) *Valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	valve := &Valve{Address: listener.Addr().String(), Shut: make(chan struct{}), open: make(chan struct{})}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go valve.carry(client.(*net.TCPConn), target)
		}
	}()
	return valve
}

// Open lets everything pass from now on.
func (v *Valve) Open() { close(v.open) }

func (v *Valve) carry(client *net.TCPConn, target string) {
	conn, err := net.Dial("tcp", target)
	if err != nil {
		reset(client)
		return
	}
	server := conn.(*net.TCPConn)
	var both sync.WaitGroup
	both.Add(2)
	for from, to := range map[*net.TCPConn]*net.TCPConn{client: server, server: client} {
		go func() {
			defer both.Done()
			passed := 0
			pass(to, from, func(bytes int) {
				if passed += bytes; passed >= valveBytes {
					v.shut.Do(func() { close(v.Shut) })
					<-v.open
				}
			})
		}()
	}
	both.Wait()
	_ = client.Close()
	_ = server.Close()
}

// pass copies bytes, and their end or their reset.
func pass(to, from *net.TCPConn, before func(bytes int)) {
	buffer := make([]byte, 64*1024)
	for {
		count, err := from.Read(buffer)
		if count > 0 {
			before(count)
			if _, err := to.Write(buffer[:count]); err != nil {
				reset(from)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			reset(to)
			return
		}
	}
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
