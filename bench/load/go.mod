module gitaly-tls-proxy/bench

go 1.26.0

require (
	gitaly-tls-proxy/interop v0.0.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/hashicorp/yamux v0.1.2 // indirect
	github.com/libp2p/go-buffer-pool v0.0.2 // indirect
	github.com/libp2p/go-yamux/v5 v5.1.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace gitaly-tls-proxy/interop => ../../test/interop
