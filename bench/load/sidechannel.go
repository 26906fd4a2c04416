package main

import (
	"context"
	"errors"
	"io"
	"net"

	"gitaly-tls-proxy/interop/backchannel"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// serveSidechannel sends the requested number of messages over the call's sidechannel, as Gitaly sends a pack.
func serveSidechannel(ctx context.Context, request *message, block []byte) error {
	messages, err := request.count()
	if err != nil {
		return err
	}
	channel, err := backchannel.OpenSidechannel(ctx)
	if err != nil {
		return err
	}
	for ; err == nil && messages > 0; messages-- {
		_, err = channel.Write(block)
	}
	if err == nil {
		err = channel.CloseWrite()
	}
	return errors.Join(err, channel.Close())
}

// sidechannelScenario downloads over sidechannels, one call after the other on each connection.
func sidechannelScenario(ctx context.Context, s settings) (scenario, error) {
	registry := backchannel.NewRegistry()
	open := make([]*grpc.ClientConn, 0, s.connections)
	for range s.connections {
		conn, err := backchannel.Dial("passthrough:///"+s.target.address, insecure.NewCredentials(),
			backchannel.Options{Registry: registry},
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return s.target.dial(ctx)
			}),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return scenario{}, err
		}
		open = append(open, conn)
	}
	ctx = withMetadata(ctx)
	return scenario{
		run: func(limit budget) (tally, error) {
			return measure(s.connections*s.concurrency, limit, func(worker int) (int64, error) {
				return fetch(ctx, open[worker%s.connections], registry)
			})
		},
		close: closeAll(open),
	}, nil
}

func fetch(ctx context.Context, conn *grpc.ClientConn, registry *backchannel.Registry) (int64, error) {
	received := int64(0)
	ctx, waiter := registry.NewContext(ctx, func(channel *backchannel.Sidechannel) error {
		var err error
		received, err = io.CopyBuffer(onlyWriter{io.Discard}, channel, make([]byte, messageBytes))
		return err
	})
	err := conn.Invoke(ctx, sidechannelMethod, countMessage(transferMessages), &message{})
	if err := errors.Join(err, waiter.Close()); err != nil {
		return 0, err
	}
	return received, expectBytes(received, transferMessages)
}

// onlyWriter hides io.Discard's ReadFrom, so that the buffer given is the one that is used.
type onlyWriter struct{ io.Writer }
