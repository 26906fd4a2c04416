package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/service"
)

// streamedBytes is far above every window and queue on the way.
const streamedBytes = 16 << 20

func TestHealthCheckReachesTheService(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		if err := client.Health(patiently(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnaryCallsReturnTheirAnswers(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		for _, size := range []int{0, 1, 100, 16 << 10, 1 << 20} {
			request := bytes.Repeat([]byte{0xa5}, size)
			answer, err := client.Unary(patiently(t), request)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(answer, request) {
				t.Fatalf("the answer to %d bytes differs from them", size)
			}
		}
	})
}

func TestConcurrentCallsShareOneConnection(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		const calls = 64
		results := make(chan error, calls)
		for i := range calls {
			go func() {
				request := fmt.Appendf(nil, "call %d", i)
				answer, err := client.Unary(patiently(t), request)
				if err == nil && !bytes.Equal(answer, request) {
					err = fmt.Errorf("call %d was answered %q", i, answer)
				}
				results <- err
			}()
		}
		for range calls {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestErrorsKeepTheirCodeMessageAndTrailer(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		reason, err := client.Fail(patiently(t), codes.FailedPrecondition)
		if got := status.Convert(err); got.Code() != codes.FailedPrecondition ||
			got.Message() != "failed as asked: 100 % ü" {
			t.Errorf("got %v", err)
		}
		if len(reason) != 1 || reason[0] != "asked for" {
			t.Errorf("the trailer holds %q", reason)
		}
	})
}

func TestServerStreamArrivesWhole(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		if err := client.Down(patiently(t), streamedBytes); err != nil {
			t.Fatal(err)
		}
	})
}

func TestClientStreamArrivesWhole(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		if err := client.Up(patiently(t), streamedBytes); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBidirectionalStreamAnswersEachMessageAtOnce(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		chat, err := client.Chat(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if err := chat.Say(bytes.Repeat([]byte{byte(i)}, i*i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := chat.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestServerSeesTheClientCancel(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		blocked, err := client.Block(ctx, t.Name())
		if err != nil {
			t.Fatal(err)
		}
		if blocked.Remaining != 0 {
			t.Errorf("the server sees a deadline in %s, there is none", blocked.Remaining)
		}
		cancel()
		if err := blocked.Wait(); status.Code(err) != codes.Canceled {
			t.Errorf("the client got %v", err)
		}
		if outcome, err := client.Outcome(patiently(t), t.Name()); err != nil || outcome != codes.Canceled {
			t.Errorf("the server saw %s (%v)", outcome, err)
		}
	})
}

func TestDeadlineReachesTheServerAndEndsTheCallThere(t *testing.T) {
	onEveryRoute(t, everyProtocol, func(t *testing.T, client *service.Client) {
		const timeout = time.Second
		// The connection's own handshakes are not to use up the deadline.
		if err := client.Health(patiently(t)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		blocked, err := client.Block(ctx, t.Name())
		if err != nil {
			t.Fatal(err)
		}
		if blocked.Remaining <= 0 || blocked.Remaining > timeout {
			t.Errorf("the server sees %s until the deadline, the client set %s", blocked.Remaining, timeout)
		}
		if err := blocked.Wait(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the client got %v", err)
		}
		// Both ends have a timer; where the client's is first, its reset arrives as a cancel.
		outcome, err := client.Outcome(patiently(t), t.Name())
		if err != nil || outcome != codes.DeadlineExceeded && outcome != codes.Canceled {
			t.Errorf("the server saw %s (%v)", outcome, err)
		}
	})
}
