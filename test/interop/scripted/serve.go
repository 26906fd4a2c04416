package scripted

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	// Registers gzip, for both directions.
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gitaly-tls-proxy/interop/backchannel"
)

// performer serves calls as their plans say.
type performer struct {
	served       *Ledger
	sidechannels *sidechannelLedger
	// cut ends the connection of the call that is served.
	cut func(ctx context.Context, abruptly bool) error
}

// handle is a [grpc.StreamHandler].
func (p *performer) handle(_ any, stream grpc.ServerStream) error {
	ctx := stream.Context()
	plan, err := incoming(ctx)
	if err != nil {
		return err
	}
	if err := p.begin(plan, stream); err != nil {
		return fmt.Errorf("%s: %w", plan.ID, err)
	}
	switch plan.End {
	case ByStatus:
		return statusOf(plan)
	case ByReset:
		p.served.interrupted(ctx, plan.End)
		stream.SetTrailer(metadata.Pairs(filler(overflowBytes)...))
		return nil
	case ByKiller:
		if err := p.cut(ctx, plan.Abruptly); err != nil {
			return err
		}
		p.served.interrupted(ctx, ByKill)
	default:
		p.served.interrupted(ctx, plan.End)
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// begin does everything until the end.
func (p *performer) begin(plan *Plan, stream grpc.ServerStream) error {
	ctx := stream.Context()
	if plan.MetadataBytes > 0 {
		large := metadata.Pairs(filler(plan.MetadataBytes)...)
		if err := stream.SetHeader(large); err != nil {
			return err
		}
		stream.SetTrailer(large)
	}
	if err := readRequests(plan, stream); err != nil {
		return err
	}
	if plan.Vote != nil {
		if err := callBack(ctx, plan.Vote); err != nil {
			return err
		}
	}
	if plan.Sidechannel != nil {
		sidechannel, err := plan.Sidechannel.serve(ctx, plan.ID, p.sidechannels)
		if err != nil {
			return err
		}
		if plan.waits() {
			// It is open when the call is interrupted.
			context.AfterFunc(ctx, func() { _ = sidechannel.Close() })
		} else if err := sidechannel.Close(); err != nil {
			return err
		}
	}
	// The first echo brought the headers.
	if (plan.HeadersFirst || plan.waits()) && !plan.Echo {
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
	}
	for range plan.Answers {
		if err := stream.SendMsg(wrapperspb.Bytes(content(plan.AnswerBytes))); err != nil {
			return err
		}
	}
	return nil
}

func readRequests(plan *Plan, stream grpc.ServerStream) error {
	for range plan.Requests {
		request := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		if plan.Echo {
			if err := stream.SendMsg(request); err != nil {
				return err
			}
		}
	}
	if plan.LeaveOpen {
		return nil
	}
	if err := stream.RecvMsg(&wrapperspb.BytesValue{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last request: %w", err)
	}
	return nil
}

func callBack(ctx context.Context, vote *Vote) error {
	client, err := backchannel.FromContext(ctx)
	if err != nil {
		return err
	}
	plan := vote.Plan
	plan.Method, plan.RequestBytes = vote.Method, vote.RequestBytes
	// A call of its own: what happens to the one that is served does not decide how it ends.
	return perform(context.WithoutCancel(ctx), client.Reverse(), &plan, Hooks{})
}

func statusOf(plan *Plan) error {
	if plan.Code == codes.OK {
		return nil
	}
	return status.Error(plan.Code, "failed as planned: 100 % ü")
}
