package backchannel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// ErrPlain is returned by [FromContext] for a call that came over plain gRPC.
var ErrPlain = errors.New("backchannel: the call's connection is plain gRPC")

// Peer is the server's view of one backchannel connection: what it can do beside answering calls.
type Peer struct {
	credentials.CommonAuthInfo
	session session
	reverse *grpc.ClientConn
	inner   credentials.AuthInfo
}

// AuthType implements [credentials.AuthInfo].
func (*Peer) AuthType() string { return Magic }

// Inner is what the transport beneath knows of the client: [credentials.TLSInfo] over TLS.
func (p *Peer) Inner() credentials.AuthInfo { return p.inner }

// Reverse is the gRPC connection towards the client. It lives as long as the client's connection.
func (p *Peer) Reverse() *grpc.ClientConn { return p.reverse }

// OpenSidechannel opens a yamux stream to the client for the sidechannel id, waiting for the client's "ok" at most
// until ctx's deadline.
func (p *Peer) OpenSidechannel(ctx context.Context, id int64) (*Sidechannel, error) {
	stream, err := p.session.Open()
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := greet(stream, id, deadline); err != nil {
		return nil, errors.Join(fmt.Errorf("sidechannel %d: %w", id, err), stream.Close())
	}
	return newSidechannel(stream), nil
}

func greet(stream net.Conn, id int64, deadline time.Time) error {
	if err := stream.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := stream.Write(binary.BigEndian.AppendUint64([]byte(SidechannelMagic), uint64(id))); err != nil {
		return err
	}
	var answer [len(sidechannelReady)]byte
	if _, err := io.ReadFull(stream, answer[:]); err != nil {
		return err
	}
	if string(answer[:]) != sidechannelReady {
		return fmt.Errorf("answered %q", answer)
	}
	return stream.SetDeadline(time.Time{})
}

// FromContext gives the backchannel connection of the call that a handler is serving, or [ErrPlain].
func FromContext(ctx context.Context) (*Peer, error) {
	if client, ok := peer.FromContext(ctx); ok {
		if backchannel, ok := client.AuthInfo.(*Peer); ok {
			return backchannel, nil
		}
	}
	return nil, ErrPlain
}

// OpenSidechannel opens the sidechannel that the metadata of the call being served names.
func OpenSidechannel(ctx context.Context) (*Sidechannel, error) {
	client, err := FromContext(ctx)
	if err != nil {
		return nil, err
	}
	values := metadata.ValueFromIncomingContext(ctx, SidechannelIDKey)
	if len(values) != 1 {
		return nil, fmt.Errorf("backchannel: %d values of %s", len(values), SidechannelIDKey)
	}
	id, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("backchannel: %s: %w", SidechannelIDKey, err)
	}
	return client.OpenSidechannel(ctx, id)
}

// Accept reads the first 11 bytes of conn and gives the connection on which gRPC is to be served: conn itself, with
// those bytes to be read again, or the client's first yamux stream, then with a Peer. Closing the result closes
// everything; on an error the caller closes conn. reverse are further options of the connection towards the client.
func (l Library) Accept(conn net.Conn, reverse ...grpc.DialOption) (net.Conn, *Peer, error) {
	magic, err := readMagic(conn)
	if err != nil {
		return nil, nil, err
	}
	if magic != Magic {
		return &replayed{Conn: conn, head: []byte(magic)}, nil, nil
	}
	session, err := l.server(conn)
	if err != nil {
		return nil, nil, err
	}
	served, client, err := acceptSession(session, reverse)
	if err != nil {
		return nil, nil, errors.Join(err, session.Close())
	}
	return served, client, nil
}

func acceptSession(session session, options []grpc.DialOption) (net.Conn, *Peer, error) {
	stream, err := session.Accept()
	if err != nil {
		return nil, nil, fmt.Errorf("the client's gRPC stream: %w", err)
	}
	back, err := session.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("the reverse gRPC stream: %w", err)
	}
	reverse, err := grpc.NewClient("passthrough:///backchannel", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialOnce(back)),
		grpc.WithIdleTimeout(0),
	}, options...)...)
	if err != nil {
		return nil, nil, err
	}
	reverse.Connect()
	served := &owned{Conn: stream, close: func() error {
		return errors.Join(reverse.Close(), session.Close())
	}}
	return served, &Peer{session: session, reverse: reverse}, nil
}

// dialOnce gives the stream to the first dial. There is no second one to give: the reverse connection ends with the
// client's.
func dialOnce(stream net.Conn) func(context.Context, string) (net.Conn, error) {
	streams := make(chan net.Conn, 1)
	streams <- stream
	close(streams)
	return func(context.Context, string) (net.Conn, error) {
		if stream, ok := <-streams; ok {
			return stream, nil
		}
		return nil, net.ErrClosed
	}
}

type serverCredentials struct {
	credentials.TransportCredentials
	library Library
	reverse []grpc.DialOption
}

// ServerCredentials accept backchannel and plain gRPC clients alike, over transport: credentials.NewTLS(…) or
// insecure.NewCredentials(). reverse are further options of the connections towards the clients.
func ServerCredentials(
	transport credentials.TransportCredentials, reverse ...grpc.DialOption,
) credentials.TransportCredentials {
	return Hashicorp.ServerCredentials(transport, reverse...)
}

// ServerCredentials are those of the package, with this library.
func (l Library) ServerCredentials(
	transport credentials.TransportCredentials, reverse ...grpc.DialOption,
) credentials.TransportCredentials {
	return &serverCredentials{transport, l, reverse}
}

func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	served, client, err := c.library.Accept(conn, c.reverse...)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	if client == nil {
		return served, info, nil
	}
	client.inner = info
	return served, client, nil
}

func (c *serverCredentials) Clone() credentials.TransportCredentials {
	return &serverCredentials{c.TransportCredentials.Clone(), c.library, c.reverse}
}
