package main

import (
	"context"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// patience bounds a case, and each call of a soak: far above what any takes, so that a loaded machine decides nothing.
const patience = time.Minute

// soakCalls is how often a soak calls, from soakWorkers at once.
const (
	soakCalls   = 20
	soakWorkers = 4
)

// reporting is the balancer of package interop that hands the server's load reports to the orca cases.
const reporting = `{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`

// cases are all of grpc-go's interop client, under its names, but those that ask Google for credentials. A case that fails
// ends the program with what it saw.
var cases = map[string]func(context.Context, target) error{
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
	"unimplemented_method":        connected(interop.DoUnimplementedMethod),
	"unimplemented_service": connected(func(ctx context.Context, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	}),
	"pick_first_unary": stub(interop.DoPickFirstUnary),
	"orca_per_rpc":     stub(interop.DoORCAPerRPCTest, grpc.WithDefaultServiceConfig(reporting)),
	"orca_oob":         stub(interop.DoORCAOOBTest, grpc.WithDefaultServiceConfig(reporting)),
	"rpc_soak":         soakOneConnection,
	"channel_soak":     soakNewConnections,
}

func connected(run func(context.Context, *grpc.ClientConn), options ...grpc.DialOption) func(context.Context, target) error {
	return func(ctx context.Context, to target) error {
		conn, err := to.dial(options...)
		if err != nil {
			return err
		}
		run(ctx, conn)
		return conn.Close()
	}
}

func stub(
	run func(context.Context, testgrpc.TestServiceClient), options ...grpc.DialOption,
) func(context.Context, target) error {
	return connected(func(ctx context.Context, conn *grpc.ClientConn) {
		run(ctx, testgrpc.NewTestServiceClient(conn))
	}, options...)
}

func call(
	run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption),
) func(context.Context, target) error {
	return stub(func(ctx context.Context, client testgrpc.TestServiceClient) { run(ctx, client) })
}

func soakOneConnection(ctx context.Context, to target) error {
	return connected(func(ctx context.Context, conn *grpc.ClientConn) {
		soak(ctx, to, func() (*grpc.ClientConn, func()) { return conn, func() {} })
	})(ctx, to)
}

// soakNewConnections makes each call on a connection of its own.
func soakNewConnections(ctx context.Context, to target) error {
	soak(ctx, to, func() (*grpc.ClientConn, func()) {
		conn, err := to.dial()
		if err != nil {
			log.Fatal(err)
		}
		return conn, func() { _ = conn.Close() }
	})
	return nil
}

func soak(ctx context.Context, to target, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize:                      271828,
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: patience,
		OverallTimeout:                   patience,
		ServerAddr:                       to.address,
		NumWorkers:                       soakWorkers,
		Iterations:                       soakCalls,
		ChannelForTest:                   channel,
	})
}
