package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	allowedService = "interop.Allowed"
	refusedService = "interop.Refused"

	connections   = 4
	workersOnEach = 2
	largestBody   = 64 << 20
	// uploadsAtOnce: a part of them waits for the connection's window when another is refused.
	uploadsAtOnce = 5
	// patience is the deadline of calls that are not expected to reach it.
	patience = 10 * time.Minute
)

var kinds = []string{"Unary", "Down", "Up", "Chat"}

// mix is a sequence of calls that a seed determines, except for the worker that makes each.
type mix struct {
	calls int
	// uploads is the number of refused calls with the largest body that are made first, all on one connection.
	uploads int
	seed    uint64
	refusal string
}

// result is what a client has seen.
type result struct {
	Refused map[string]int `json:"refused"`
	Allowed map[string]int `json:"allowed"`
	// Whole is the number of allowed calls that were neither cancelled nor had a short deadline: all were served and compared.
	Whole       int     `json:"whole"`
	Connections int     `json:"connections"`
	Uploads     float64 `json:"uploads_seconds"`
}

type ending int

const (
	whole ending = iota
	withDeadline
	cancelled
	withShortDeadline
)

type plan struct {
	isAllowed bool
	kind      string
	bytes     int
	ending    ending
	// after is when the call is cancelled, or its deadline.
	after time.Duration
}

func draw(random *rand.Rand) plan {
	planned := plan{isAllowed: random.IntN(5) == 0, kind: kinds[random.IntN(len(kinds))]}
	switch size := random.IntN(1000); {
	case size < 200:
	case size < 700:
		planned.bytes = 1 + random.IntN(1<<10)
	case size < 920:
		planned.bytes = 1 + random.IntN(1<<16)
	case size < 990:
		planned.bytes = 1 + random.IntN(1<<20)
	case !planned.isAllowed || size == 999:
		planned.bytes = largestBody
	}
	switch ends := random.IntN(10); ends {
	case 0:
		planned.ending, planned.after = cancelled, time.Duration(random.IntN(2000))*time.Microsecond
	case 1:
		planned.ending, planned.after = withShortDeadline, time.Duration(random.IntN(5000))*time.Microsecond
	case 2:
		planned.ending, planned.after = withDeadline, patience
	default:
		planned.after = patience
	}
	if planned.isAllowed && (planned.ending == cancelled || planned.ending == withShortDeadline) {
		planned.kind, planned.bytes = "Hold", planned.bytes%pieceBytes
		planned.after += 20 * time.Millisecond
	}
	return planned
}

// run makes the calls.
func (m mix) run(ctx context.Context, to reach) (*result, error) {
	body := make([]byte, largestBody)
	var seed [32]byte
	seed[0] = byte(m.seed)
	_, _ = rand.NewChaCha8(seed).Read(body)
	outcome := &result{Refused: map[string]int{}, Allowed: map[string]int{}, Connections: connections}
	var conns []*grpc.ClientConn
	for range connections {
		conn, err := to.dial()
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	begun := time.Now()
	if err := m.upload(ctx, conns[0], body, outcome); err != nil {
		return nil, fmt.Errorf("%d refused uploads: %w", m.uploads, err)
	}
	outcome.Uploads = time.Since(begun).Seconds()
	// Calls of all kinds, each refused and then allowed: the next call of a connection is not disturbed.
	var plans []plan
	for _, kind := range kinds {
		for _, bytes := range []int{0, 1000, 1 << 20, largestBody} {
			plans = append(plans, plan{kind: kind, bytes: bytes, after: patience},
				plan{isAllowed: true, kind: kind, bytes: bytes % largestBody, after: patience})
		}
	}
	for _, planned := range plans {
		if err := m.make(ctx, conns[0], planned, body, outcome, &sync.Mutex{}); err != nil {
			return nil, err
		}
	}
	return outcome, m.mixed(ctx, conns, body, outcome)
}

// upload makes refused calls with large bodies, then allowed ones that need the same windows.
func (m mix) upload(ctx context.Context, conn *grpc.ClientConn, body []byte, outcome *result) error {
	var mutex sync.Mutex
	results := make(chan error, uploadsAtOnce)
	for range uploadsAtOnce {
		go func() {
			var err error
			for index := 0; err == nil && index < m.uploads/uploadsAtOnce; index++ {
				err = m.make(ctx, conn, plan{kind: "Up", bytes: largestBody, after: patience}, body, outcome, &mutex)
			}
			results <- err
		}()
	}
	var failures []error
	for range uploadsAtOnce {
		failures = append(failures, <-results)
	}
	last := m.make(ctx, conn, plan{isAllowed: true, kind: "Up", bytes: largestBody, after: patience}, body, outcome, &mutex)
	return errors.Join(append(failures, last)...)
}

func (m mix) mixed(ctx context.Context, conns []*grpc.ClientConn, body []byte, outcome *result) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mutex sync.Mutex
	var workers sync.WaitGroup
	var made atomic.Int64
	for worker := range connections * workersOnEach {
		random := rand.New(rand.NewPCG(m.seed, uint64(worker)))
		workers.Go(func() {
			for ctx.Err() == nil {
				planned := draw(random)
				if !planned.isAllowed && made.Add(1) > int64(m.calls) {
					return
				}
				if err := m.make(ctx, conns[worker%connections], planned, body, outcome, &mutex); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// make makes a call and says whether it ended as it must.
func (m mix) make(
	ctx context.Context, conn *grpc.ClientConn, planned plan, body []byte, outcome *result, mutex *sync.Mutex,
) error {
	service, counted := refusedService, outcome.Refused
	if planned.isAllowed {
		service, counted = allowedService, outcome.Allowed
	}
	end := context.WithTimeout
	if planned.ending == cancelled {
		end = cancelAfter
	}
	limited, stop := end(ctx, planned.after)
	defer stop()
	err := call(limited, conn, service, planned.kind, body[:planned.bytes])
	code := status.Code(err)
	mutex.Lock()
	defer mutex.Unlock()
	counted[code.String()]++
	isCut := (planned.ending == cancelled && code == codes.Canceled) ||
		(planned.ending == withShortDeadline && code == codes.DeadlineExceeded)
	switch {
	case planned.isAllowed && planned.kind != "Hold" && err == nil:
		outcome.Whole++
		return nil
	case planned.isAllowed && planned.kind == "Hold" && isCut:
		return nil
	case !planned.isAllowed && (isCut || m.isRefusal(err, planned.kind)):
		return nil
	default:
		return fmt.Errorf("%+v ended with %w", planned, err)
	}
}

func (m mix) isRefusal(err error, kind string) bool {
	message := strings.ReplaceAll(m.refusal, "{rpc}", refusedService+"/"+kind)
	return status.Code(err) == codes.PermissionDenied && status.Convert(err).Message() == message
}

func cancelAfter(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(after, cancel)
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}
