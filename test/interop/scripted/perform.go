package scripted

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Hooks are called while a call is made. Each may be nil.
type Hooks struct {
	// BeforeRequest is called before each request, counted from 0.
	BeforeRequest func(index int) error
	// Waiting is called once a call that is to be interrupted can be: both sides have what the other was to send.
	Waiting func()
}

// perform makes the call and gives an error if it did not go as planned.
func perform(ctx context.Context, conn grpc.ClientConnInterface, plan *Plan, hooks Hooks) error {
	if err := attempt(ctx, conn, plan, hooks); err != nil {
		return fmt.Errorf("call %s, %s %s: %w", plan.ID, plan.Kind, plan.Method, err)
	}
	return nil
}

func attempt(ctx context.Context, conn grpc.ClientConnInterface, plan *Plan, hooks Hooks) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if plan.Deadline > 0 {
		var release context.CancelFunc
		ctx, release = context.WithTimeout(ctx, plan.Deadline)
		defer release()
	}
	ctx, err := plan.outgoing(ctx)
	if err != nil {
		return err
	}
	options := []grpc.CallOption{grpc.WaitForReady(true)}
	if plan.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	stream, err := conn.NewStream(ctx, plan.streams(), plan.Method, options...)
	if err != nil {
		return err
	}
	if err := sendRequests(plan, stream, hooks); err != nil {
		return err
	}
	if plan.waits() {
		if err := receiveBeforeWaiting(plan, stream); err != nil {
			return fmt.Errorf("before it was interrupted: %w", err)
		}
		if hooks.Waiting != nil {
			hooks.Waiting()
		}
		if plan.End == ByCancel {
			cancel()
		}
	}
	ended := receiveAll(plan, stream)
	if status.Code(ended) != plan.Want() {
		return fmt.Errorf("ended with %w, not with %s", ended, plan.Want())
	}
	return nil
}

func sendRequests(plan *Plan, stream grpc.ClientStream, hooks Hooks) error {
	for i := range plan.Requests {
		if hooks.BeforeRequest != nil {
			if err := hooks.BeforeRequest(i); err != nil {
				return err
			}
		}
		if err := stream.SendMsg(wrapperspb.Bytes(content(plan.RequestBytes))); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		if plan.Echo {
			if err := stream.RecvMsg(&wrapperspb.BytesValue{}); err != nil {
				return fmt.Errorf("echo %d: %w", i, err)
			}
		}
	}
	if plan.LeaveOpen {
		return nil
	}
	return stream.CloseSend()
}

func receiveBeforeWaiting(plan *Plan, stream grpc.ClientStream) error {
	if _, err := stream.Header(); err != nil {
		return err
	}
	for range plan.Answers {
		if err := stream.RecvMsg(&wrapperspb.BytesValue{}); err != nil {
			return err
		}
	}
	return nil
}

// receiveAll takes what comes until the end and gives the error that ended the call, nil if it was OK.
func receiveAll(plan *Plan, stream grpc.ClientStream) error {
	for {
		err := stream.RecvMsg(&wrapperspb.BytesValue{})
		if errors.Is(err, io.EOF) {
			return nil
		}
		// Where the server sends one message only, grpc-go waits for the status behind it.
		if err != nil || !plan.streams().ServerStreams {
			return err
		}
	}
}
