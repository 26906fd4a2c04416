// Package service is what stands in Gitaly's place in the tests: a gRPC service with every kind of call, over plain
// gRPC and the backchannel, and its client. Messages are protobuf's well-known wrappers, so there is no code
// generator.
package service

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// RPCs is the table of its methods for `rpcs_path`. Uploads are mutators.
const RPCs = "method\ttype\toperation\n" +
	"interop.Service/Unary\tunary\taccessor\n" +
	"interop.Service/Fail\tunary\taccessor\n" +
	"interop.Service/Outcome\tunary\taccessor\n" +
	"interop.Service/Sidechannel\tunary\taccessor\n" +
	"interop.Service/CallBack\tunary\taccessor\n" +
	"interop.Service/Down\tserver_stream\taccessor\n" +
	"interop.Service/Block\tserver_stream\taccessor\n" +
	"interop.Service/Up\tclient_stream\tmutator\n" +
	"interop.Service/Chat\tbidi_stream\taccessor\n"

const (
	serviceName = "interop.Service"

	// unaryMethod answers with the request's bytes.
	unaryMethod = "/interop.Service/Unary"
	// failMethod ends with the code asked for, a message and a trailer.
	failMethod = "/interop.Service/Fail"
	// downMethod streams as many bytes as asked for; their digest is in the trailer.
	downMethod = "/interop.Service/Down"
	// upMethod answers with the digest of the bytes streamed to it.
	upMethod = "/interop.Service/Up"
	// chatMethod sends each message back as it comes.
	chatMethod = "/interop.Service/Chat"
	// blockMethod says that it has started, then waits until the call is cancelled or its deadline passes.
	blockMethod = "/interop.Service/Block"
	// outcomeMethod says how a call of blockMethod ended, as the server saw it. It waits for the end.
	outcomeMethod = "/interop.Service/Outcome"
	// sidechannelMethod moves bytes over a sidechannel, like PostUploadPackWithSidechannel: it sends as many as asked
	// for, reads until the client ends, and answers with the digests of both directions.
	sidechannelMethod = "/interop.Service/Sidechannel"
	// callBackMethod calls the client over the reverse connection and answers with the client's answer.
	callBackMethod = "/interop.Service/CallBack"

	// reverseServiceName is what the client serves on the reverse connection, as Praefect serves RefTransaction.
	reverseServiceName = "interop.Reverse"
	voteMethod         = "/interop.Reverse/Vote"

	// digestTrailer holds the SHA-256 of what downMethod sent.
	digestTrailer = "interop-sha256-bin"
	// failTrailer is sent by failMethod.
	failTrailer = "interop-reason"
)

// streamBytes is one message of a stream.
const streamBytes = 64 * 1024

// message is a pointer to a generated protobuf type.
type message[T any] interface {
	*T
	proto.Message
}

// unary describes a unary method by its handler.
func unary[Q any, PQ message[Q], A proto.Message](
	name string, handle func(context.Context, PQ) (A, error),
) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(
			_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			request := PQ(new(Q))
			if err := decode(request); err != nil {
				return nil, err
			}
			return handle(ctx, request)
		},
	}
}

// serverStream describes a method with one request and a stream of answers.
func serverStream[Q any, PQ message[Q]](
	name string, handle func(PQ, grpc.ServerStream) error,
) grpc.StreamDesc {
	return grpc.StreamDesc{
		StreamName:    name,
		ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			request := PQ(new(Q))
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			return handle(request, stream)
		},
	}
}
