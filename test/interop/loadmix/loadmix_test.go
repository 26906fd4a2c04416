package main

import (
	"context"
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// TestBothEndsCountTheSame is what makes the numbers worth comparing with those of a proxy between the ends.
func TestBothEndsCountTheSame(t *testing.T) {
	t.Parallel()
	for _, protocol := range []service.Protocol{service.HTTP2, service.Backchannel} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			const calls = 700
			client, server := runDirectly(t, protocol, calls)
			started, seen := 0, map[string]int{}
			for _, method := range client.Made {
				started += method.Started
				for code, count := range method.Codes {
					seen[code] += count
				}
			}
			if started != calls {
				t.Errorf("%d calls were started, not %d", started, calls)
			}
			if len(seen) != int(codes.Unauthenticated)+1 {
				t.Errorf("not all codes occurred: %v", seen)
			}
			if client.Killed[byClient] == 0 || client.Killed[byServer] == 0 {
				t.Errorf("not both ends killed connections: %v", client.Killed)
			}
			expectMirrored(t, client.Made, server.Served)
			expectMirrored(t, server.Made, client.Served)
			if client.Sidechannels != (Sidechannels{
				server.Sidechannels.Opened, server.Sidechannels.Received, server.Sidechannels.Sent,
			}) {
				t.Errorf("sidechannels: the client has %+v, the server %+v", client.Sidechannels, server.Sidechannels)
			}
			if hasSome := client.Sidechannels.Opened > 0 && len(client.Served) > 0; hasSome != (protocol == service.Backchannel) {
				t.Errorf("%+v, and %d methods of the client were called", client.Sidechannels, len(client.Served))
			}
		})
	}
}

func runDirectly(t *testing.T, protocol service.Protocol, calls int) (*Client, Report) {
	t.Helper()
	ctx, cancel := scripted.Within(context.Background(), time.Minute)
	defer cancel()
	server, err := scripted.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := load{
		url:         "tcp://" + server.Address,
		calls:       calls,
		seed:        20240722,
		connections: 3,
		concurrency: 16,
		deadline:    500 * time.Millisecond,
	}.run(ctx, protocol)
	if err != nil {
		t.Fatal(err)
	}
	report, err := reportOf(server)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	return client, report
}

// codeOf is what a client sees of a call that the server counts as interrupted so.
var codeOf = map[scripted.End]codes.Code{
	scripted.ByCancel:   codes.Canceled,
	scripted.ByDeadline: codes.DeadlineExceeded,
	scripted.ByReset:    codes.Internal,
	scripted.ByKill:     codes.Unavailable,
}

// expectMirrored compares the calls that one end made with those that the other served.
func expectMirrored(t *testing.T, made, served []MethodCounts) {
	t.Helper()
	if len(made) != len(served) {
		t.Fatalf("%d methods were called, %d served", len(made), len(served))
	}
	for i, caller := range made {
		server := served[i]
		ended := maps.Clone(server.Codes)
		for end, count := range server.Interrupted {
			ended[codeOf[end].String()] += count
		}
		if caller.Service != server.Service || caller.Method != server.Method || caller.Started != server.Started ||
			caller.Sent != server.Received || caller.Received != server.Sent || !maps.Equal(caller.Codes, ended) {
			t.Errorf("the ends disagree: %+v and %+v", caller, server)
		}
	}
}
