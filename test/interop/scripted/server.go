package scripted

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"gitaly-tls-proxy/interop/backchannel"
)

// Server serves every method as the calls' plans say, over plain gRPC and the backchannel on one TCP port.
type Server struct {
	// Address is where it listens, host:port.
	Address string
	// Served are the calls of clients, Made those to clients.
	Served, Made *Ledger

	grpc         *grpc.Server
	sidechannels *sidechannelLedger
	ended        chan error
	mutex        sync.Mutex
	conns        map[string]net.Conn
}

// Serve listens on address, host:port, and serves.
func Serve(address string) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &Server{
		Address:      listener.Addr().String(),
		Served:       NewLedger(),
		Made:         NewLedger(),
		sidechannels: &sidechannelLedger{},
		ended:        make(chan error, 1),
		conns:        map[string]net.Conn{},
	}
	performer := &performer{served: server.Served, sidechannels: server.sidechannels, cut: server.cut}
	server.grpc = grpc.NewServer(
		grpc.Creds(backchannel.ServerCredentials(insecure.NewCredentials(), grpc.WithStatsHandler(server.Made))),
		grpc.UnknownServiceHandler(performer.handle),
		grpc.StatsHandler(server.Served),
		grpc.WaitForHandlers(true),
	)
	go func() { server.ended <- server.grpc.Serve(&keptListener{listener, server}) }()
	return server, nil
}

// Sidechannels are those that the server has opened and closed.
func (s *Server) Sidechannels() []SidechannelAccount { return s.sidechannels.all() }

// GracefulStop sends GOAWAY, waits for all calls and closes.
func (s *Server) GracefulStop() error {
	s.grpc.GracefulStop()
	return <-s.ended
}

// Stop cuts what is open.
func (s *Server) Stop() error {
	s.grpc.Stop()
	return <-s.ended
}

// cut closes the connection of the call that is served; it is known by the client's address.
func (s *Server) cut(ctx context.Context, abruptly bool) error {
	client, ok := peer.FromContext(ctx)
	if !ok {
		return errors.New("a call without a peer")
	}
	s.mutex.Lock()
	conn := s.conns[client.Addr.String()]
	s.mutex.Unlock()
	if conn == nil {
		return fmt.Errorf("no connection of %s", client.Addr)
	}
	return closeConn(conn, abruptly)
}

// closeConn ends a connection by a reset or without.
func closeConn(conn net.Conn, abruptly bool) error {
	if tcp, ok := conn.(*net.TCPConn); ok && abruptly {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return conn.Close()
}

// keptListener keeps what it accepts until it is closed.
type keptListener struct {
	net.Listener
	server *Server
}

func (l *keptListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.mutex.Lock()
	defer l.server.mutex.Unlock()
	l.server.conns[conn.RemoteAddr().String()] = conn
	return &keptConn{conn, l.server}, nil
}

type keptConn struct {
	net.Conn
	server *Server
}

func (c *keptConn) Close() error {
	c.server.mutex.Lock()
	defer c.server.mutex.Unlock()
	// The address may be somebody else's by now.
	address := c.RemoteAddr().String()
	if c.server.conns[address] == c.Conn {
		delete(c.server.conns, address)
	}
	return c.Conn.Close()
}
