// Command refusals makes calls that the proxy's policy refuses in a mix with calls that it allows. With `serve` it is the
// server, which counts the calls that its handlers saw; with `call` a client that makes the mix; with `measure` a client that
// compares the latency of allowed calls with that of a tunnel. Each prints its results as a line of JSON. See soak/README.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gitaly-tls-proxy/interop/backchannel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "refusals:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("expected serve, call or measure")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	var to reach
	flags.StringVar(&to.address, "address", "", "host:port of the listener that judges calls")
	flags.StringVar(&to.ca, "ca", "", "file with the certificate authority to trust")
	library := flags.String("library", "", "hashicorp or libp2p: calls are made within a backchannel; without it over HTTP/2")
	var mix mix
	flags.IntVar(&mix.calls, "calls", 1000, "refused calls to make")
	flags.IntVar(&mix.uploads, "uploads", 100, "refused calls with 64 MiB to make first")
	flags.Uint64Var(&mix.seed, "seed", 1, "the same seed makes the same calls")
	flags.StringVar(&mix.refusal, "refusal", "",
		"the message of a refusal, with {rpc} in place of the RPC; a server that has it refuses calls itself")
	tunnel := flags.String("tunnel", "", "for measure, host:port of the listener that does not inspect")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	to.library = backchannel.Library(*library)
	switch arguments[0] {
	case "serve":
		return serve(ctx, mix.refusal)
	case "call":
		result, err := mix.run(ctx, to)
		return report(result, err)
	case "measure":
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		result, err := measure(ctx, to, *tunnel)
		return report(result, err)
	default:
		return fmt.Errorf("unknown command %q", arguments[0])
	}
}

func report(result any, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "done", "result": result})
}
