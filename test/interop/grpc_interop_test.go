package interop_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/service"
)

// interopCases are gRPC's own interoperability cases (doc/interop-test-descriptions.md), all but those that need an account
// at Google, several servers, or a load balancer's report, and the two that only repeat large_unary (rpc_soak, channel_soak).
// One that fails ends the program, and says which.
var interopCases = map[string]func(context.Context, *grpc.ClientConn){
	"empty_unary":                 call(interop.DoEmptyUnaryCall),
	"large_unary":                 call(interop.DoLargeUnaryCall),
	"client_streaming":            call(interop.DoClientStreaming),
	"server_streaming":            call(interop.DoServerStreaming),
	"ping_pong":                   call(interop.DoPingPong),
	"empty_stream":                call(interop.DoEmptyStream),
	"timeout_on_sleeping_server":  call(interop.DoTimeoutOnSleepingServer),
	"cancel_after_begin":          call(interop.DoCancelAfterBegin),
	"cancel_after_first_response": call(interop.DoCancelAfterFirstResponse),
	"status_code_and_message":     call(interop.DoStatusCodeAndMessage),
	"special_status_message":      call(interop.DoSpecialStatusMessage),
	"custom_metadata":             call(interop.DoCustomMetadata),
	"unimplemented_method":        interop.DoUnimplementedMethod,
	"unimplemented_service": func(ctx context.Context, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	},
}

func call(
	run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption),
) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, conn *grpc.ClientConn) { run(ctx, testgrpc.NewTestServiceClient(conn)) }
}

// TestGrpcInterop runs grpc-go's interop client against its server, in both protocols, directly and through the proxy.
func TestGrpcInterop(t *testing.T) {
	t.Parallel()
	upstream := startInterop(t)
	running, url, ca := startInFront(t, "tcp://"+upstream)
	ends := map[string]struct {
		address   string
		transport credentials.TransportCredentials
	}{
		"directly":          {upstream, insecure.NewCredentials()},
		"through the proxy": {strings.TrimPrefix(url, "tls://"), credentials.NewTLS(clientTLS(ca))},
	}
	for name, end := range ends {
		for _, protocol := range everyProtocol {
			transport := end.transport
			if protocol == service.Backchannel {
				transport = backchannel.ClientCredentials(transport, backchannel.Options{Registry: backchannel.NewRegistry()})
			}
			for which, run := range interopCases {
				t.Run(name+"/"+string(protocol)+"/"+which, func(t *testing.T) {
					conn, err := grpc.NewClient("passthrough:///"+end.address, grpc.WithTransportCredentials(transport))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					run(patiently(t), conn)
				})
			}
		}
	}
	// A client whose deadline comes before its handshake is done leaves in it, so the log's connections are not counted.
	running.Stop(t)
}

// startInterop starts grpc-go's interop server for both protocols and gives its address.
func startInterop(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(backchannel.ServerCredentials(insecure.NewCredentials())))
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}
