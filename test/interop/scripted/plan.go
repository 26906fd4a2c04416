// Package scripted makes gRPC calls of which it is known beforehand what they move and how they end, and counts at
// both ends what they did. A call carries its plan in its metadata; the server serves any method and does what the plan
// says, so the methods may carry the names of Gitaly's.
//
// Plans are made so that nothing is left to chance for whoever watches the wire: the server reads every request before
// it answers, and a call that is interrupted is so only once each side has what the other was to send until then.
package scripted

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Kind says how many messages each side sends; in the words of go-grpc-prometheus.
type Kind string

const (
	Unary        Kind = "unary"
	ClientStream Kind = "client_stream"
	ServerStream Kind = "server_stream"
	BidiStream   Kind = "bidi_stream"
)

// End is how a call ends.
type End string

const (
	// ByStatus: the server ends it with the plan's code.
	ByStatus End = ""
	// ByCancel: the client cancels it while the server waits.
	ByCancel End = "cancel"
	// ByDeadline: its deadline passes while the server waits.
	ByDeadline End = "deadline"
	// ByReset: the server resets its stream. grpc-go's does so with INTERNAL_ERROR where trailers exceed what the client
	// accepts.
	ByReset End = "reset"
	// ByKill: its connection is cut while the server waits.
	ByKill End = "kill"
	// ByKiller: the server cuts its connection once it has read the requests.
	ByKiller End = "killer"
)

const (
	// planKey is the metadata that holds the plan.
	planKey = "interop-plan"
	// IDKey is the metadata that names the call, by which both ends and whoever watches know it.
	IDKey = "x-gitlab-correlation-id"
	// fillerKey is metadata that nobody reads.
	fillerKey = "interop-filler"
	// maxHeaderListBytes is what clients accept in a header block; overflowBytes is more.
	maxHeaderListBytes = 64 * 1024
	overflowBytes      = 80 * 1024
)

// Plan is one call.
type Plan struct {
	// ID is unique among the calls that are counted together.
	ID     string `json:"id"`
	Method string `json:"-"`
	Kind   Kind   `json:"kind"`
	// Requests is how many messages the client sends; exactly one where its kind says so.
	Requests     int `json:"requests"`
	RequestBytes int `json:"-"`
	// Answers is how many messages the server sends after it has read all requests.
	Answers     int `json:"answers,omitempty"`
	AnswerBytes int `json:"answer_bytes,omitempty"`
	// Echo makes the server answer each request at once with the same.
	Echo bool `json:"echo,omitempty"`
	// LeaveOpen keeps the client's side open, so that the server ends the call first. Only where the client streams.
	LeaveOpen bool `json:"leave_open,omitempty"`
	// MetadataBytes fills the headers of both sides and the trailers.
	MetadataBytes int  `json:"metadata_bytes,omitempty"`
	Gzip          bool `json:"-"`
	// HeadersFirst makes the server send its headers as soon as it has the requests, alone; so do calls that are
	// interrupted.
	HeadersFirst bool       `json:"headers_first,omitempty"`
	End          End        `json:"end,omitempty"`
	Code         codes.Code `json:"code,omitempty"`
	// Deadline is from the start; zero for none.
	Deadline time.Duration `json:"-"`
	// Abruptly makes ByKiller cut the connection by a reset.
	Abruptly bool `json:"abruptly,omitempty"`
	// Vote is a call that the server makes to the client meanwhile, over the backchannel.
	Vote        *Vote        `json:"vote,omitempty"`
	Sidechannel *Sidechannel `json:"sidechannel,omitempty"`
}

// Vote is a call in the other direction.
type Vote struct {
	Plan
	Method       string `json:"method"`
	RequestBytes int    `json:"request_bytes"`
}

// Sidechannel is what a call moves beside its messages.
type Sidechannel struct {
	// Up and Down are bytes without their framing.
	Up   int `json:"up"`
	Down int `json:"down"`
	// Cut makes the server close the sidechannel after Down without saying that this was all.
	Cut bool `json:"cut,omitempty"`
}

// Want is the code that the client sees.
func (p *Plan) Want() codes.Code {
	switch p.End {
	case ByCancel:
		return codes.Canceled
	case ByDeadline:
		return codes.DeadlineExceeded
	case ByReset:
		return codes.Internal
	case ByKill, ByKiller:
		return codes.Unavailable
	default:
		return p.Code
	}
}

// waits says whether the server waits until the call is interrupted.
func (p *Plan) waits() bool { return p.End == ByCancel || p.End == ByDeadline || p.End == ByKill }

func (p *Plan) streams() *grpc.StreamDesc {
	return &grpc.StreamDesc{
		ClientStreams: p.Kind == ClientStream || p.Kind == BidiStream,
		ServerStreams: p.Kind == ServerStream || p.Kind == BidiStream,
	}
}

// outgoing adds the plan to the metadata of a call.
func (p *Plan) outgoing(ctx context.Context) (context.Context, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	pairs := []string{planKey, string(text), IDKey, p.ID}
	return metadata.AppendToOutgoingContext(ctx, append(pairs, filler(p.MetadataBytes)...)...), nil
}

// incoming reads the plan of the call that is served.
func incoming(ctx context.Context) (*Plan, error) {
	plan := &Plan{}
	values := metadata.ValueFromIncomingContext(ctx, planKey)
	if len(values) != 1 {
		return nil, status.Error(codes.FailedPrecondition, "the call has no plan")
	}
	if err := json.Unmarshal([]byte(values[0]), plan); err != nil {
		return nil, status.Error(codes.FailedPrecondition, fmt.Sprintf("the call's plan: %v", err))
	}
	return plan, nil
}

// filler is metadata of about so many bytes, in values of a few kilobytes. None is equal to another, or the tables of
// HPACK would make them short.
func filler(count int) []string {
	const valueBytes = 3000
	var pairs []string
	for ; count > 0; count -= valueBytes {
		pairs = append(pairs, fillerKey, strings.Repeat(fmt.Sprintf("filler-%d-", count), valueBytes/13))
	}
	return pairs
}

// content is count bytes that gzip makes small: captures are to be so.
func content(count int) []byte {
	const pattern = "what moves here is counted, not read. "
	return []byte(strings.Repeat(pattern, count/len(pattern)+1)[:count])
}

// Within is a context that is cancelled after patience and has no deadline, which every call would tell the server.
func Within(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() { cancel(fmt.Errorf("not done in %s", patience)) })
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}
