package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gitaly-tls-proxy/interop/backchannel"
)

// Protocol is what a client speaks after the TLS handshake.
type Protocol string

const (
	// HTTP2 is plain gRPC.
	HTTP2 Protocol = "http2"
	// Backchannel is gRPC within yamux.
	Backchannel Protocol = "backchannel"
)

// Client calls the service. One connection; safe for concurrent calls.
type Client struct {
	conn     *grpc.ClientConn
	registry *backchannel.Registry
}

// Dial makes a client of tls://, tcp:// or unix:. config is for tls:// alone. It connects with the first call.
func Dial(url string, protocol Protocol, config *tls.Config, options ...grpc.DialOption) (*Client, error) {
	switch protocol {
	case HTTP2:
		target, transport := Target(url, config)
		options = append([]grpc.DialOption{grpc.WithTransportCredentials(transport)}, options...)
		conn, err := grpc.NewClient(target, options...)
		return &Client{conn, backchannel.NewRegistry()}, err
	case Backchannel:
		return DialBackchannel(url, backchannel.Hashicorp, config, options...)
	default:
		return nil, fmt.Errorf("unknown protocol %q", protocol)
	}
}

// DialBackchannel is Dial over the backchannel, with a library for it.
func DialBackchannel(
	url string, library backchannel.Library, config *tls.Config, options ...grpc.DialOption,
) (*Client, error) {
	target, transport := Target(url, config)
	registry := backchannel.NewRegistry()
	conn, err := backchannel.Dial(target, transport, backchannel.Options{
		Library:         library,
		Registry:        registry,
		RegisterReverse: registerVote,
	}, options...)
	return &Client{conn, registry}, err
}

// Target is tls://, tcp:// or unix: in grpc-go's words. config is for tls:// alone.
func Target(url string, config *tls.Config) (string, credentials.TransportCredentials) {
	scheme, address, ok := strings.Cut(url, "://")
	if !ok {
		return url, insecure.NewCredentials()
	}
	if scheme == "tls" {
		return "passthrough:///" + address, credentials.NewTLS(config)
	}
	return "passthrough:///" + address, insecure.NewCredentials()
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Health asks as `gitlab-rake gitlab:gitaly:check` does: the empty service.
func (c *Client) Health(ctx context.Context) error {
	answer, err := grpc_health_v1.NewHealthClient(c.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil && answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		err = fmt.Errorf("health is %s", answer.GetStatus())
	}
	return err
}

// Unary gives the answer to a unary call, which is the request.
func (c *Client) Unary(ctx context.Context, request []byte) ([]byte, error) {
	answer := &wrapperspb.BytesValue{}
	err := c.conn.Invoke(ctx, unaryMethod, wrapperspb.Bytes(request), answer)
	return answer.GetValue(), err
}

// Fail makes the server end a call with code; it gives the error and the trailer.
func (c *Client) Fail(ctx context.Context, code codes.Code) (reason []string, err error) {
	var trailer metadata.MD
	err = c.conn.Invoke(
		ctx, failMethod, wrapperspb.UInt32(uint32(code)), &emptypb.Empty{}, grpc.Trailer(&trailer),
	)
	return trailer.Get(failTrailer), err
}

// Down takes count bytes from a server stream and compares their digest with the server's.
func (c *Client) Down(ctx context.Context, count int64) error {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, downMethod)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.Int64(count)), stream.CloseSend()); err != nil {
		return err
	}
	digest, received, err := receive(&messageReader{receive: stream.RecvMsg})
	if err != nil {
		return err
	}
	sent := strings.Join(stream.Trailer().Get(digestTrailer), "")
	return compare(received, count, string(digest[:]), sent)
}

// Up sends count bytes over a client stream and compares their digest with the server's.
func (c *Client) Up(ctx context.Context, count int64) error {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, upMethod)
	if err != nil {
		return err
	}
	sent, err := send(messageWriter{stream.SendMsg}, count)
	// After a failed send the real error is the one that receiving gives.
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	answer := &wrapperspb.BytesValue{}
	if err := errors.Join(stream.CloseSend(), stream.RecvMsg(answer)); err != nil {
		return err
	}
	return compare(count, count, string(answer.GetValue()), string(sent[:]))
}

// Chat is an open bidirectional stream.
type Chat struct {
	stream grpc.ClientStream
}

// Chat opens a bidirectional stream, which stays open until Close or the end of ctx.
func (c *Client) Chat(ctx context.Context) (*Chat, error) {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, chatMethod)
	return &Chat{stream}, err
}

// Say sends one message and waits for the same one.
func (c *Chat) Say(message []byte) error {
	if err := c.stream.SendMsg(wrapperspb.Bytes(message)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	answer := &wrapperspb.BytesValue{}
	if err := c.stream.RecvMsg(answer); err != nil {
		return err
	}
	return compare(int64(len(answer.GetValue())), int64(len(message)), string(answer.GetValue()), string(message))
}

// Close ends the client's side and waits for the server's clean end.
func (c *Chat) Close() error {
	if err := c.stream.CloseSend(); err != nil {
		return err
	}
	err := c.stream.RecvMsg(&wrapperspb.BytesValue{})
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		return errors.New("a message after the end")
	}
	return err
}

// Blocked is a call that the server does not end by itself.
type Blocked struct {
	// Remaining is the time until the deadline as the server saw it when it started; zero without a deadline.
	Remaining time.Duration
	stream    grpc.ClientStream
}

// Block starts a call that ends with ctx; it returns when the server is in it. key names it for Outcome.
func (c *Client) Block(ctx context.Context, key string) (*Blocked, error) {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, blockMethod)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.String(key)), stream.CloseSend()); err != nil {
		return nil, err
	}
	remaining := &durationpb.Duration{}
	if err := stream.RecvMsg(remaining); err != nil {
		return nil, err
	}
	return &Blocked{Remaining: remaining.AsDuration(), stream: stream}, nil
}

// Wait blocks until the call has ended, as the client sees it.
func (b *Blocked) Wait() error { return b.stream.RecvMsg(&durationpb.Duration{}) }

// Outcome asks how the server saw the end of the call key, waiting for it.
func (c *Client) Outcome(ctx context.Context, key string) (codes.Code, error) {
	answer := &wrapperspb.UInt32Value{}
	err := c.conn.Invoke(ctx, outcomeMethod, wrapperspb.String(key), answer)
	return codes.Code(answer.GetValue()), err
}

// Sidechannel sends up bytes and takes down bytes over one sidechannel, both at once, and compares the digests of
// both ends.
func (c *Client) Sidechannel(ctx context.Context, up, down int64) error {
	var own exchanged
	theirs, err := c.SidechannelFunc(ctx, down, func(sidechannel *backchannel.Sidechannel) error {
		var err error
		own, err = swap(sidechannel, up)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(
		compare(own.receivedBytes, down, string(own.received[:]), string(theirs[:len(Digest{})])),
		compare(up, up, string(theirs[len(Digest{}):]), string(own.sent[:])),
	)
}

// SidechannelFunc makes the call with callback as the client's end; the server sends down bytes and reads until the
// client's CloseWrite. It gives the server's two digests, sent and received, one after the other.
func (c *Client) SidechannelFunc(
	ctx context.Context, down int64, callback func(*backchannel.Sidechannel) error,
) ([]byte, error) {
	ctx, waiter := c.registry.NewContext(ctx, callback)
	answer := &wrapperspb.BytesValue{}
	err := c.conn.Invoke(ctx, sidechannelMethod, wrapperspb.Int64(down), answer)
	if err := errors.Join(err, waiter.Close()); err != nil {
		return nil, err
	}
	if len(answer.GetValue()) != 2*len(Digest{}) {
		return nil, fmt.Errorf("the answer has %d bytes", len(answer.GetValue()))
	}
	return answer.GetValue(), nil
}

// CallBack makes the server call this client; the answer is the client's own: see vote.
func (c *Client) CallBack(ctx context.Context, request []byte) ([]byte, error) {
	answer := &wrapperspb.BytesValue{}
	err := c.conn.Invoke(ctx, callBackMethod, wrapperspb.Bytes(request), answer)
	return answer.GetValue(), err
}

func registerVote(registrar grpc.ServiceRegistrar) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: reverseServiceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{unary("Vote", vote)},
	}, nil)
}

// vote answers with what it was asked and a word of the client's own, so an answer of anybody else would show.
func vote(_ context.Context, request *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return wrapperspb.Bytes(append([]byte("voted on "), request.GetValue()...)), nil
}

func compare(gotBytes, wantBytes int64, got, want string) error {
	if gotBytes != wantBytes {
		return fmt.Errorf("%d bytes arrived, %d were sent", gotBytes, wantBytes)
	}
	if got != want {
		return errors.New("other bytes arrived than were sent")
	}
	return nil
}
