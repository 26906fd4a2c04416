package backchannel

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Options are what a client brings to a backchannel connection. The zero value does.
type Options struct {
	// Library is the implementation of yamux.
	Library Library
	// Registry receives the sidechannels. Without one, calls that need a sidechannel fail.
	Registry *Registry
	// RegisterReverse adds the services that the server may call over the reverse connection.
	RegisterReverse func(grpc.ServiceRegistrar)
	// ReverseOptions are further options of the gRPC server that answers the server's calls.
	ReverseOptions []grpc.ServerOption
}

// Connect makes a backchannel connection of conn, after its TLS handshake if there is one, and gives the first yamux
// stream, for gRPC's HTTP/2. Closing it closes everything; on an error the caller closes conn.
func Connect(conn net.Conn, options Options) (net.Conn, error) {
	if _, err := io.WriteString(conn, Magic); err != nil {
		return nil, err
	}
	session, err := options.Library.client(conn)
	if err != nil {
		return nil, err
	}
	stream, err := session.Open()
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	reverse := grpc.NewServer(append(
		[]grpc.ServerOption{grpc.Creds(&reverseCredentials{insecure.NewCredentials(), options.Registry})},
		options.ReverseOptions...,
	)...)
	if options.RegisterReverse != nil {
		options.RegisterReverse(reverse)
	}
	// Serve ends with an error when the session is closed, which is how each of these servers ends.
	go func() { _ = reverse.Serve(session) }()
	return &owned{Conn: stream, close: func() error {
		err := session.Close()
		reverse.Stop()
		return err
	}}, nil
}

// Dial gives a gRPC connection to target over the backchannel, over transport. Like [grpc.NewClient] it connects with
// the first call.
func Dial(
	target string, transport credentials.TransportCredentials, options Options, dialOptions ...grpc.DialOption,
) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, append(
		[]grpc.DialOption{grpc.WithTransportCredentials(ClientCredentials(transport, options))}, dialOptions...,
	)...)
}

type clientCredentials struct {
	credentials.TransportCredentials
	options Options
}

// ClientCredentials are what [Dial] uses; for callers with a connection factory of their own.
func ClientCredentials(
	transport credentials.TransportCredentials, options Options,
) credentials.TransportCredentials {
	return &clientCredentials{transport, options}
}

func (c *clientCredentials) ClientHandshake(
	ctx context.Context, authority string, raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	stream, err := Connect(conn, c.options)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return stream, info, nil
}

func (c *clientCredentials) Clone() credentials.TransportCredentials {
	return &clientCredentials{c.TransportCredentials.Clone(), c.options}
}

// reverseCredentials tell the streams that the server opens apart: a sidechannel, or the reverse gRPC connection.
type reverseCredentials struct {
	credentials.TransportCredentials
	registry *Registry
}

func (c *reverseCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	magic, err := readMagic(raw)
	if err != nil {
		return nil, nil, err
	}
	if magic != SidechannelMagic {
		return c.TransportCredentials.ServerHandshake(&replayed{Conn: raw, head: []byte(magic)})
	}
	if c.registry == nil {
		return nil, nil, errors.New("backchannel: a sidechannel for a client without a registry")
	}
	if err := c.registry.receive(raw); err != nil {
		return nil, nil, err
	}
	return nil, nil, credentials.ErrConnDispatched
}

func (c *reverseCredentials) Clone() credentials.TransportCredentials {
	return &reverseCredentials{c.TransportCredentials.Clone(), c.registry}
}
