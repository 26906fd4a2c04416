// Command grpcinterop is grpc-go's interoperability client and server (google.golang.org/grpc/interop) over plain gRPC and
// over the backchannel. With -serve it is the server, else it runs one case as the client. See README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"google.golang.org/grpc"

	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/service"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	serve := flag.String("serve", "", "serve on this host:port, until stdin ends")
	list := flag.Bool("list", false, "print the names of the cases as JSON")
	address := flag.String("address", "", "call the server at tls://host:port or tcp://host:port")
	ca := flag.String("ca", "", "for tls://, the file with the certificate authority to trust")
	serverName := flag.String("server-name", "", "for tls://, the name that the certificate must have")
	protocol := flag.String("protocol", string(service.HTTP2), "http2 or backchannel")
	which := flag.String("case", "", "the case to run")
	flag.Parse()
	out := json.NewEncoder(os.Stdout)
	if *list {
		return out.Encode(slices.Sorted(maps.Keys(cases)))
	}
	if *serve != "" {
		server, bound, err := start(*serve)
		if err != nil {
			return err
		}
		defer server.Stop()
		if err := out.Encode(map[string]string{"address": bound}); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	test, ok := cases[*which]
	if !ok {
		return fmt.Errorf("unknown case %q", *which)
	}
	to, err := targetOf(service.Protocol(*protocol), *address, *ca, *serverName)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return test(ctx, to)
}

// target is where a case connects to, and how.
type target struct {
	address string
	options []grpc.DialOption
}

func (t target) dial(more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(t.address, append(more, t.options...)...)
}

func targetOf(protocol service.Protocol, url, ca, serverName string) (target, error) {
	config, err := service.Trust(ca, serverName)
	if err != nil {
		return target{}, err
	}
	address, transport := service.Target(url, config)
	switch protocol {
	case service.HTTP2:
	case service.Backchannel:
		transport = backchannel.ClientCredentials(transport, backchannel.Options{Registry: backchannel.NewRegistry()})
	default:
		return target{}, fmt.Errorf("unknown protocol %q", protocol)
	}
	return target{address, []grpc.DialOption{grpc.WithTransportCredentials(transport)}}, nil
}
