package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/backchannel"
)

// pieceBytes is the length of a message of a stream.
const pieceBytes = 64 << 10

// rawCodec sends and receives messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = bytes.Clone(data)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// counts has the calls that handlers saw, by path.
type counts struct {
	mutex  sync.Mutex
	byPath map[string]int
}

// newServer serves each kind of call, whatever the service is called. With a refusal it refuses the calls that a policy should
// refuse itself, to compare with a client that reaches it through a tunnel.
func newServer(library backchannel.Library, seen *counts, refusal string) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(library.ServerCredentials(insecure.NewCredentials())),
		grpc.ForceServerCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			path, _ := grpc.MethodFromServerStream(stream)
			seen.mutex.Lock()
			seen.byPath[path]++
			seen.mutex.Unlock()
			if refusal != "" && strings.HasPrefix(path, "/"+refusedService+"/") {
				return status.Error(codes.PermissionDenied, strings.ReplaceAll(refusal, "{rpc}", path[1:]))
			}
			return answer(path[strings.LastIndexByte(path, '/')+1:], stream)
		}),
	)
}

func answer(kind string, stream grpc.ServerStream) error {
	if kind == "Up" {
		sum := sha256.New()
		err := eachMessage(stream, func(message []byte) error {
			_, err := sum.Write(message)
			return err
		})
		if err != nil {
			return err
		}
		digest := sum.Sum(nil)
		return stream.SendMsg(&digest)
	}
	if kind == "Chat" {
		return eachMessage(stream, func(message []byte) error { return stream.SendMsg(&message) })
	}
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	if kind == "Down" {
		for piece := range piecesOf(request) {
			if err := stream.SendMsg(&piece); err != nil {
				return err
			}
		}
		return nil
	}
	if err := stream.SendMsg(&request); err != nil || kind != "Hold" {
		return err
	}
	<-stream.Context().Done()
	return status.FromContextError(stream.Context().Err()).Err()
}

// serve serves one port for each library of the backchannel until stdin ends, and reports what the handlers saw.
func serve(ctx context.Context, refusal string) error {
	seen := &counts{byPath: map[string]int{}}
	ports := map[backchannel.Library]int{}
	served := make(chan error, 2)
	for _, library := range []backchannel.Library{backchannel.Hashicorp, backchannel.Libp2p} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ports[library] = listener.Addr().(*net.TCPAddr).Port
		server := newServer(library, seen, refusal)
		defer server.Stop()
		go func() { served <- server.Serve(listener) }()
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "ready", "ports": ports}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	case err := <-served:
		return err
	}
	seen.mutex.Lock()
	defer seen.mutex.Unlock()
	return report(seen.byPath, nil)
}
