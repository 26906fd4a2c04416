package main

import (
	"net"

	"gitaly-tls-proxy/interop/backchannel"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// runBackend serves plaintext gRPC and the backchannel on loopback, as Gitaly's listen_addr does, until its input
// ends.
func runBackend(arguments []string) error {
	flags := newFlags("backend")
	_ = flags.Parse(arguments)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return net.UnknownNetworkError(listener.Addr().Network())
	}
	server := grpc.NewServer(
		grpc.Creds(backchannel.ServerCredentials(insecure.NewCredentials())),
		grpc.ForceServerCodecV2(rawCodec{}),
	)
	registerService(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	talk := newControl()
	if err := talk.say(map[string]any{"event": "listening", "port": address.Port}); err != nil {
		return err
	}
	_ = talk.await("end")
	server.Stop()
	return <-served
}
