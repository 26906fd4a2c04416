package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// way is a connection whose allowed calls are timed.
type way struct {
	name    string
	conn    *grpc.ClientConn
	samples []float64
}

// latency has percentiles in milliseconds.
type latency struct {
	Calls int     `json:"calls"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// measure times allowed calls of three connections in turn until ctx ends: one whose calls are judged, and two of a tunnel, whose
// difference is noise. Beside them, calls are refused on the first.
func measure(ctx context.Context, to reach, tunnel string) (map[string]latency, error) {
	ways := []*way{{name: "policy"}, {name: "tunnel"}, {name: "second tunnel"}}
	for index, each := range ways {
		reached := to
		if index > 0 {
			reached.address = tunnel
		}
		conn, err := reached.dial()
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		each.conn = conn
		// The first call connects.
		if err := call(ctx, conn, allowedService, "Unary", nil); err != nil {
			return nil, err
		}
	}
	body := make([]byte, 32<<10)
	refused := make(chan error, 1)
	go func() { refused <- keepRefusing(ctx, ways[0].conn, body[:1<<10]) }()
	for round := 0; ctx.Err() == nil; round++ {
		for _, index := range rand.Perm(len(ways)) {
			each := ways[index]
			begun := time.Now()
			kind, bytes := kinds[round%len(kinds)], 1<<(5*(round/len(kinds)%4))
			if err := call(ctx, each.conn, allowedService, kind, body[:bytes]); err != nil {
				if ctx.Err() != nil {
					break
				}
				return nil, fmt.Errorf("an allowed call through the %s ended with %w", each.name, err)
			}
			each.samples = append(each.samples, float64(time.Since(begun).Microseconds())/1000)
		}
	}
	if err := <-refused; err != nil {
		return nil, err
	}
	result := map[string]latency{}
	for _, each := range ways {
		slices.Sort(each.samples)
		at := func(part float64) float64 { return each.samples[int(part*float64(len(each.samples)-1))] }
		if len(each.samples) == 0 {
			return nil, fmt.Errorf("no call through the %s was timed", each.name)
		}
		result[each.name] = latency{len(each.samples), at(0.5), at(0.99)}
	}
	return result, nil
}

// keepRefusing makes refused calls one after the other, with short pauses.
func keepRefusing(ctx context.Context, conn *grpc.ClientConn, body []byte) error {
	for index := 0; ; index++ {
		err := call(ctx, conn, refusedService, kinds[index%len(kinds)], body)
		if ctx.Err() != nil {
			return nil
		}
		if status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("a refused call ended with %w", err)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}
