package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gitaly-tls-proxy/interop/backchannel"
)

// Server serves plain gRPC and the backchannel on one address.
type Server struct {
	// URL is where it listens, port filled in, as the proxy's configuration writes it: tcp://host:port, unix:/path,
	// or tls://host:port.
	URL string

	grpc     *grpc.Server
	served   chan error
	accepted atomic.Int64
	uploads  atomic.Int64
	mutex    sync.Mutex
	outcomes map[string]chan error
}

// Start listens on "tcp://host:port" or "unix:/path", over TLS if config is not nil, and serves.
func Start(listen string, config *tls.Config) (*Server, error) {
	return StartWith(backchannel.Hashicorp, listen, config)
}

// StartWith is Start, with a library for the backchannel.
func StartWith(library backchannel.Library, listen string, config *tls.Config) (*Server, error) {
	network, address, _ := strings.Cut(listen, ":")
	listener, err := net.Listen(network, strings.TrimPrefix(address, "//"))
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	url := listen
	if network == "tcp" {
		url = "tcp://" + listener.Addr().String()
	}
	if config != nil {
		transport = credentials.NewTLS(config)
		url = "tls://" + listener.Addr().String()
	}
	server := &Server{
		URL:      url,
		grpc:     grpc.NewServer(grpc.Creds(library.ServerCredentials(transport))),
		served:   make(chan error, 1),
		outcomes: map[string]chan error{},
	}
	grpc_health_v1.RegisterHealthServer(server.grpc, health.NewServer())
	server.grpc.RegisterService(server.description(), nil)
	go func() { server.served <- server.grpc.Serve(&countingListener{listener, &server.accepted}) }()
	return server, nil
}

// Stop cuts every connection and waits until the server has ended.
func (s *Server) Stop() error {
	s.grpc.Stop()
	return <-s.served
}

// Uploads is the number of calls of [Client.Up] that were served.
func (s *Server) Uploads() int64 { return s.uploads.Load() }

// Accepted is the number of connections so far, also of those that never spoke.
func (s *Server) Accepted() int64 { return s.accepted.Load() }

type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func (s *Server) description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unary("Unary", echo),
			unary("Fail", fail),
			unary("Outcome", s.outcome),
			unary("Sidechannel", exchange),
			unary("CallBack", callBack),
		},
		Streams: []grpc.StreamDesc{
			serverStream("Down", down),
			serverStream("Block", s.block),
			{StreamName: "Up", ClientStreams: true, Handler: s.up},
			{StreamName: "Chat", ClientStreams: true, ServerStreams: true, Handler: chat},
		},
	}
}

func echo(_ context.Context, request *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return request, nil
}

func fail(ctx context.Context, code *wrapperspb.UInt32Value) (*emptypb.Empty, error) {
	if err := grpc.SetTrailer(ctx, metadata.Pairs(failTrailer, "asked for")); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.Code(code.GetValue()), "failed as asked: 100 % ü")
}

func down(count *wrapperspb.Int64Value, stream grpc.ServerStream) error {
	digest, err := send(messageWriter{stream.SendMsg}, count.GetValue())
	stream.SetTrailer(metadata.Pairs(digestTrailer, string(digest[:])))
	return err
}

func (s *Server) up(_ any, stream grpc.ServerStream) error {
	s.uploads.Add(1)
	digest, _, err := receive(&messageReader{receive: stream.RecvMsg})
	if err != nil {
		return err
	}
	return stream.SendMsg(wrapperspb.Bytes(digest[:]))
}

func chat(_ any, stream grpc.ServerStream) error {
	for {
		message := &wrapperspb.BytesValue{}
		err := stream.RecvMsg(message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil {
			return err
		}
	}
}

// block answers first with the time until its deadline, zero without one, so that the client knows that it runs.
func (s *Server) block(key *wrapperspb.StringValue, stream grpc.ServerStream) error {
	remaining := time.Duration(0)
	if deadline, ok := stream.Context().Deadline(); ok {
		remaining = time.Until(deadline)
	}
	if err := stream.SendMsg(durationpb.New(remaining)); err != nil {
		return err
	}
	<-stream.Context().Done()
	s.outcomeOf(key.GetValue()) <- stream.Context().Err()
	return status.FromContextError(stream.Context().Err()).Err()
}

func (s *Server) outcome(
	ctx context.Context, key *wrapperspb.StringValue,
) (*wrapperspb.UInt32Value, error) {
	select {
	case err := <-s.outcomeOf(key.GetValue()):
		return wrapperspb.UInt32(uint32(status.FromContextError(err).Code())), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) outcomeOf(key string) chan error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	outcome, ok := s.outcomes[key]
	if !ok {
		outcome = make(chan error, 1)
		s.outcomes[key] = outcome
	}
	return outcome
}

// exchange sends and reads at the same time, so both directions of the stream are busy together.
func exchange(ctx context.Context, count *wrapperspb.Int64Value) (*wrapperspb.BytesValue, error) {
	sidechannel, err := backchannel.OpenSidechannel(ctx)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	exchanged, err := swap(sidechannel, count.GetValue())
	if err := errors.Join(err, sidechannel.Close()); err != nil {
		return nil, fmt.Errorf("sidechannel: %w", err)
	}
	return wrapperspb.Bytes(append(exchanged.sent[:], exchanged.received[:]...)), nil
}

func callBack(ctx context.Context, vote *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	client, err := backchannel.FromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	answer := &wrapperspb.BytesValue{}
	// The reverse connection may still be in its own handshake, which is no reason to fail.
	err = client.Reverse().Invoke(ctx, voteMethod, vote, answer, grpc.WaitForReady(true))
	return answer, err
}
