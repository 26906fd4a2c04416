package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc"
)

// The calls of the load. A download request contains the requested number of messages (u64, big endian); the answer
// to an upload contains the number of received bytes, which the client checks.
const (
	unaryMethod       = "/bench.Load/Unary"
	downMethod        = "/bench.Load/Down"
	upMethod          = "/bench.Load/Up"
	echoMethod        = "/bench.Load/Echo"
	sidechannelMethod = "/bench.Load/Sidechannel"
)

// messageBytes is one message of a stream, the size of a large read of pack data.
const messageBytes = 64 * 1024

// unaryBytes is the default size of a unary request and of its answer: most of Gitaly's are small.
const unaryBytes = 128

// maxUnaryBytes is the maximum size of an answer.
const maxUnaryBytes = 1 << 20

func countMessage(n int64) *message {
	return &message{body: binary.BigEndian.AppendUint64(nil, uint64(n))}
}

func (m *message) count() (int64, error) {
	if len(m.body) != 8 {
		return 0, errors.New("a count is 8 bytes")
	}
	return int64(binary.BigEndian.Uint64(m.body)), nil
}

// filler is the content of streams: incompressible, generated once.
func filler(bytes int) []byte {
	body := make([]byte, bytes)
	state := uint64(0x9e3779b97f4a7c15)
	for i := range body {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		body[i] = byte(state)
	}
	return body
}

// registerService adds the calls to a server.
func registerService(server *grpc.Server) {
	answers := filler(maxUnaryBytes)
	block := &message{body: filler(messageBytes)}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Load",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Unary", Handler: func(
				_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
			) (any, error) {
				request := &message{}
				err := decode(request)
				return &message{body: answers[:min(request.length, maxUnaryBytes)]}, err
			}},
			{MethodName: "Sidechannel", Handler: func(
				_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
			) (any, error) {
				request := &message{keep: true}
				if err := decode(request); err != nil {
					return nil, err
				}
				return &message{body: answers[:unaryBytes]}, serveSidechannel(ctx, request, block.body)
			}},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
				request := &message{keep: true}
				if err := stream.RecvMsg(request); err != nil {
					return err
				}
				messages, err := request.count()
				for ; err == nil && messages > 0; messages-- {
					err = stream.SendMsg(block)
				}
				return err
			}},
			{StreamName: "Echo", ClientStreams: true, ServerStreams: true, Handler: func(
				_ any, stream grpc.ServerStream,
			) error {
				for {
					part := &message{}
					err := stream.RecvMsg(part)
					if errors.Is(err, io.EOF) {
						return nil
					}
					if err == nil {
						err = stream.SendMsg(block)
					}
					if err != nil {
						return err
					}
				}
			}},
			{StreamName: "Up", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
				received := int64(0)
				for {
					part := &message{}
					err := stream.RecvMsg(part)
					if errors.Is(err, io.EOF) {
						return stream.SendMsg(countMessage(received))
					}
					if err != nil {
						return err
					}
					received += int64(part.length)
				}
			}},
		},
	}, nil)
}
