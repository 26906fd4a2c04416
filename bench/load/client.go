package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
)

// settings are the client's flags.
type settings struct {
	scenario    string
	target      *target
	connections int
	unaryBytes  int
	concurrency int
	warmup      time.Duration
	limit       budget
}

// scenario is one kind of load. run may be called again; everything that it opened is closed by close, and is open
// until then, so that idle connections can be looked at.
type scenario struct {
	run   func(limit budget) (tally, error)
	close func()
}

// scenarios makes each kind of load; bench/scenarios.mjs chooses by these names.
var scenarios = map[string]func(context.Context, settings) (scenario, error){
	"rpc":         unaryScenario,
	"mixed":       mixedScenario,
	"down":        transferScenario(download),
	"up":          transferScenario(upload),
	"duplex":      transferScenario(exchange),
	"sidechannel": sidechannelScenario,
	"handshake":   dialScenario((*target).dial),
	"connection":  dialScenario(func(to *target, ctx context.Context) (net.Conn, error) { return openHTTP2(ctx, to) }),
	"idle":        idleScenario,
}

// runClient makes one measurement: connect and warm up, say "ready", wait for "go", work, say "done", wait for
// "end". Between these nothing is under way, so the bench can read CPU and memory at rest.
func runClient(arguments []string) error {
	flags := newFlags("client")
	name := flags.String("scenario", "rpc", "rpc, mixed, down, up, duplex, sidechannel, handshake, connection or idle")
	url := flags.String("target", "", "tls://127.0.0.1:PORT or tcp://127.0.0.1:PORT")
	ca := flags.String("ca", "", "PEM file to trust")
	key := flags.String("key", "", "PEM file with its key, if the client is to present the certificate")
	connections := flags.Int("connections", 1, "connections; for idle, how many to open")
	bytes := flags.Int("message-bytes", unaryBytes, "size of the message of a unary call, and of its answer; for rpc")
	concurrency := flags.Int("concurrency", 1, "calls under way on each connection; for handshake and idle, dials")
	warmup := flags.Duration("warmup", time.Second, "how long to work before the measurement")
	duration := flags.Duration("duration", 3*time.Second, "how long to measure")
	rest := flags.Duration("pause", 0, "what each worker does nothing for after an operation")
	maxBytes := flags.Int64("max-bytes", 4<<30, "measure at most so many payload bytes")
	maxOperations := flags.Int64("max-operations", 1_000_000, "measure at most so many operations")
	_ = flags.Parse(arguments)

	prepare := scenarios[*name]
	if prepare == nil {
		return errors.New("no scenario " + *name)
	}
	to, err := newTarget(*url, *ca, *key)
	if err != nil {
		return err
	}
	// Far more than the bounds allow: a proxy that hangs ends the client, not the other way round.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second+time.Duration(*connections)*10*time.Millisecond+2*(*warmup+*duration))
	defer cancel()
	talk := newControl()
	facts, err := to.facts(ctx)
	if err != nil {
		return fmt.Errorf("first connection: %w", err)
	}
	load, err := prepare(ctx, settings{
		scenario: *name, target: to, connections: *connections, concurrency: *concurrency, warmup: *warmup,
		unaryBytes: min(*bytes, maxUnaryBytes),
	})
	if err != nil {
		return err
	}
	defer load.close()
	if *name != "idle" {
		if _, err := load.run(budget{duration: *warmup, bytes: *maxBytes, operations: *maxOperations, pause: *rest}); err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	if err := talk.say(map[string]any{"event": "ready", "tls": facts}); err != nil {
		return err
	}
	if err := talk.await("go"); err != nil {
		return err
	}
	result, err := load.run(budget{duration: *duration, bytes: *maxBytes, operations: *maxOperations, pause: *rest})
	if err != nil {
		return err
	}
	if err := talk.say(map[string]any{"event": "done", "result": result}); err != nil {
		return err
	}
	if err := talk.await("end"); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func closeAll[C io.Closer](open []C) func() {
	return func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}
}

func unaryScenario(ctx context.Context, s settings) (scenario, error) {
	open, err := connect(s.target, s.connections)
	if err != nil {
		return scenario{}, err
	}
	if err := dialAll(ctx, open); err != nil {
		return scenario{}, err
	}
	ctx = withMetadata(ctx)
	request := &message{body: filler(s.unaryBytes)}
	return scenario{
		run: func(limit budget) (tally, error) {
			return measure(s.connections*s.concurrency, limit, func(worker int) (int64, error) {
				return unary(ctx, open[worker%s.connections], request)
			})
		},
		close: closeAll(open),
	}, nil
}

// mixedScenario makes, of every eight calls of a worker, six small ones, a download and an upload.
func mixedScenario(ctx context.Context, s settings) (scenario, error) {
	open, err := connect(s.target, s.connections)
	if err != nil {
		return scenario{}, err
	}
	ctx = withMetadata(ctx)
	request := &message{body: filler(unaryBytes)}
	block := &message{body: filler(messageBytes)}
	workers := s.connections * s.concurrency
	turns := make([]int, workers)
	return scenario{
		run: func(limit budget) (tally, error) {
			return measure(workers, limit, func(worker int) (int64, error) {
				conn := open[worker%s.connections]
				turns[worker]++
				switch (turns[worker] + worker) % 8 {
				case 0:
					return downloadSome(ctx, conn, mixedMessages)
				case 4:
					return uploadSome(ctx, conn, block, mixedMessages)
				default:
					return unary(ctx, conn, request)
				}
			})
		},
		close: closeAll(open),
	}, nil
}

type transfer func(context.Context, *grpc.ClientConn, *message) (int64, error)

func transferScenario(do transfer) func(context.Context, settings) (scenario, error) {
	return func(ctx context.Context, s settings) (scenario, error) {
		open, err := connect(s.target, s.connections)
		if err != nil {
			return scenario{}, err
		}
		ctx = withMetadata(ctx)
		block := &message{body: filler(messageBytes)}
		return scenario{
			run: func(limit budget) (tally, error) {
				return measure(s.connections*s.concurrency, limit, func(worker int) (int64, error) {
					return do(ctx, open[worker%s.connections], block)
				})
			},
			close: closeAll(open),
		}, nil
	}
}

// dialScenario opens connections and closes them at once: after the handshake, or when HTTP/2 is there.
func dialScenario(open func(*target, context.Context) (net.Conn, error)) func(context.Context, settings) (scenario, error) {
	return func(ctx context.Context, s settings) (scenario, error) {
		return scenario{
			run: func(limit budget) (tally, error) {
				return measure(s.concurrency, limit, func(int) (int64, error) {
					conn, err := open(s.target, ctx)
					if err != nil {
						return 0, err
					}
					return 0, conn.Close()
				})
			},
			close: func() {},
		}, nil
	}
}

// idleScenario opens some connections and closes them before the measurement, so that what a proxy allocates once is
// not counted as the price of a connection; then it opens all and keeps them.
func idleScenario(ctx context.Context, s settings) (scenario, error) {
	first, err := openIdle(ctx, s.target, min(s.connections, 64), s.concurrency)
	closeAll(first)()
	if err != nil {
		return scenario{}, err
	}
	open := []net.Conn{}
	return scenario{
		run: func(budget) (tally, error) {
			begin := time.Now()
			open, err = openIdle(ctx, s.target, s.connections, s.concurrency)
			return tally{Operations: int64(len(open)), Seconds: time.Since(begin).Seconds()}, err
		},
		close: func() { closeAll(open)() },
	}, nil
}
