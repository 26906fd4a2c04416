// Command loadmix makes mixed calls of which it is known what they move and how they end, and prints as JSON what its
// ends have counted. With -serve it is the server, else the client. See README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// settleTime bounds how long the server waits, when it is to end, for calls whose connection is gone.
const settleTime = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	serve := flag.String("serve", "", "serve on this host:port, until stdin or a signal ends it")
	address := flag.String("address", "", "call the server at tls://host:port or tcp://host:port")
	ca := flag.String("ca", "", "for tls://, the file with the certificate authority to trust")
	serverName := flag.String("server-name", "", "for tls://, the name that the certificate must have")
	protocol := flag.String("protocol", "both", "http2, backchannel, or both, one after the other")
	var load load
	flag.IntVar(&load.calls, "calls", 1000, "how many calls to make over each protocol")
	flag.Uint64Var(&load.seed, "seed", 1, "which mix; the same seed makes the same calls")
	flag.IntVar(&load.connections, "connections", 8, "connections over each protocol, besides those that are killed")
	flag.IntVar(&load.concurrency, "concurrency", 32, "how many calls, or connections to be killed, are under way at once")
	flag.DurationVar(&load.deadline, "deadline", 500*time.Millisecond,
		"calls whose deadline passes have this to twice this; it must be enough to begin them")
	patience := flag.Duration("timeout", 10*time.Minute, "give up after this")
	flag.Parse()
	if *serve != "" {
		return serveUntil(ctx, *serve)
	}
	var protocols []service.Protocol
	switch *protocol {
	case "both":
		protocols = []service.Protocol{service.HTTP2, service.Backchannel}
	case string(service.HTTP2), string(service.Backchannel):
		protocols = []service.Protocol{service.Protocol(*protocol)}
	default:
		return fmt.Errorf("unknown protocol %q", *protocol)
	}
	var err error
	if load.tls, err = service.Trust(*ca, *serverName); err != nil {
		return err
	}
	load.url = *address
	ctx, cancel := scripted.Within(ctx, *patience)
	defer cancel()
	reports := map[service.Protocol]*Client{}
	for _, protocol := range protocols {
		if reports[protocol], err = load.run(ctx, protocol); err != nil {
			return fmt.Errorf("%s: %w", protocol, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(reports)
}

// serveUntil prints where it listens, serves, and prints what it has counted.
func serveUntil(ctx context.Context, address string) error {
	server, err := scripted.Serve(address)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]string{"address": server.Address}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	report, err := reportOf(server)
	if err != nil {
		return errors.Join(err, server.Stop())
	}
	return errors.Join(server.Stop(), out.Encode(report))
}

// reportOf waits until every call has ended.
func reportOf(server *scripted.Server) (Report, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	served, err := server.Served.Settled(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("calls are still open: %w", err)
	}
	made, err := server.Made.Settled(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("calls to clients are still open: %w", err)
	}
	return newReport(made, served, server.Sidechannels()), nil
}
