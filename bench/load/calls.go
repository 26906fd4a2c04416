package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// mixedMessages is the length of a stream among mixed calls, such as a listing or a file.
const mixedMessages = 4

// transferMessages is one call of a stream scenario: 32 MiB, a small clone.
const transferMessages = 32 * 1024 * 1024 / messageBytes

// connect opens separate gRPC connections without waiting: the first call dials. TLS is handled by the
// dialler, as Gitaly's own client does for the backchannel, so peers without ALPN (stunnel) can be measured as well.
func connect(to *target, connections int) ([]*grpc.ClientConn, error) {
	open := make([]*grpc.ClientConn, 0, connections)
	for range connections {
		conn, err := grpc.NewClient("passthrough:///"+to.address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return to.dial(ctx) }),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return nil, err
		}
		open = append(open, conn)
	}
	return open, nil
}

// dialAll waits until all connections are open. It dials a few at a time: otherwise handshakes would time out.
func dialAll(ctx context.Context, open []*grpc.ClientConn) error {
	const dials = 16
	waiting := make(chan *grpc.ClientConn, len(open))
	for _, conn := range open {
		waiting <- conn
	}
	close(waiting)
	dialled := make(chan error, dials)
	for range dials {
		go func() {
			for conn := range waiting {
				conn.Connect()
				for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
					if !conn.WaitForStateChange(ctx, state) {
						dialled <- ctx.Err()
						return
					}
				}
			}
			dialled <- nil
		}()
	}
	var failed error
	for range dials {
		failed = errors.Join(failed, <-dialled)
	}
	return failed
}

// withMetadata adds the metadata of GitLab's calls, for proxies that parse headers.
func withMetadata(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx,
		"authorization", "Bearer v2.6d0f7a3b1c2e4d5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7.1700000000",
		"client_name", "gitlab-web",
		"x-gitlab-correlation-id", "01HF2Z8K4V7M3N5P6Q7R8S9T0V",
	)
}

func unary(ctx context.Context, conn *grpc.ClientConn, request *message) (int64, error) {
	answer := &message{}
	if err := conn.Invoke(ctx, unaryMethod, request, answer); err != nil {
		return 0, err
	}
	if answer.length != len(request.body) {
		return 0, fmt.Errorf("a unary answer of %d bytes", answer.length)
	}
	return int64(len(request.body) + answer.length), nil
}

func download(ctx context.Context, conn *grpc.ClientConn, _ *message) (int64, error) {
	return downloadSome(ctx, conn, transferMessages)
}

func downloadSome(ctx context.Context, conn *grpc.ClientConn, messages int) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, downMethod)
	if err != nil {
		return 0, err
	}
	if err := stream.SendMsg(countMessage(int64(messages))); err != nil {
		return 0, err
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	return receiveAll(stream, messages)
}

// receiveAll reads a stream to its end, and counts its messages and bytes.
func receiveAll(stream grpc.ClientStream, messages int) (int64, error) {
	received := int64(0)
	for {
		part := &message{}
		err := stream.RecvMsg(part)
		if errors.Is(err, io.EOF) {
			return received, expectBytes(received, messages)
		}
		if err != nil {
			return 0, err
		}
		received += int64(part.length)
	}
}

func upload(ctx context.Context, conn *grpc.ClientConn, block *message) (int64, error) {
	return uploadSome(ctx, conn, block, transferMessages)
}

func uploadSome(ctx context.Context, conn *grpc.ClientConn, block *message, messages int) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, upMethod)
	if err != nil {
		return 0, err
	}
	for range messages {
		if err := stream.SendMsg(block); err != nil {
			return 0, reasonOf(stream, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	answer := &message{keep: true}
	if err := stream.RecvMsg(answer); err != nil {
		return 0, err
	}
	received, err := answer.count()
	if err != nil {
		return 0, err
	}
	return received, expectBytes(received, messages)
}

// reasonOf returns why a stream has ended after SendMsg failed, which reports only io.EOF.
func reasonOf(stream grpc.ClientStream, err error) error {
	if errors.Is(err, io.EOF) {
		return errors.Join(err, stream.RecvMsg(&message{}))
	}
	return err
}

// exchange sends and receives concurrently on one stream; the server returns each message.
func exchange(ctx context.Context, conn *grpc.ClientConn, block *message) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, echoMethod)
	if err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		for range transferMessages {
			if err := stream.SendMsg(block); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	received, err := receiveAll(stream, transferMessages)
	if err != nil {
		return 0, err
	}
	return 2 * received, <-sent
}

func expectBytes(received int64, messages int) error {
	if received != int64(messages)*messageBytes {
		return fmt.Errorf("a transfer of %d bytes instead of %d", received, messages*messageBytes)
	}
	return nil
}
