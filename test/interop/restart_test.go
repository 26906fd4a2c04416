package interop_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

const (
	restarts = 10
	// callsBetweenRestarts shows that the clients have found the new process.
	callsBetweenRestarts = 100
)

// TestTenRestartsFailNoCall has one process after the other hold the port, under short and long calls.
func TestTenRestartsFailNoCall(t *testing.T) {
	t.Parallel()
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	ca := authority.New(t)
	pair := ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: gitaly.URL}
	start := func() *proxy.Proxy {
		return proxy.Start(t, proxy.Configuration{
			TLS:       &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
			Listeners: []proxy.Listener{listener},
		})
	}
	running := start()
	listener.Listen = running.URL(t, listener)

	load := startRestartLoad(t, listener.Listen, ca)
	for range restarts {
		load.awaitCalls(t, callsBetweenRestarts)
		running.Terminate(t)
		running.Await(t, "that it drains", func(line proxy.Line) bool {
			return line.Event == "draining"
		})
		old := running
		running = start()
		// Exit code 0: no connection had to be cut, though the clients never ceased to call.
		old.Exited(t)
	}
	load.awaitCalls(t, callsBetweenRestarts)
	load.stop(t)
	running.Stop(t)
}

// restartLoad calls all the time.
type restartLoad struct {
	calls   atomic.Int64
	stopped atomic.Bool
	workers sync.WaitGroup
	// failed takes the first failure; further ones are like it.
	failed chan error
}

func startRestartLoad(t *testing.T, url string, ca *authority.Authority) *restartLoad {
	t.Helper()
	load := &restartLoad{failed: make(chan error, 1)}
	for range 2 {
		// A call that finds nobody at the port waits for somebody, which costs no call but time.
		client, err := service.Dial(url, service.HTTP2, clientTLS(ca),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond},
				MinConnectTimeout: patience,
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		request := bytes.Repeat([]byte{0xa5}, 100)
		short := func(ctx context.Context) error {
			_, err := client.Unary(ctx, request)
			return err
		}
		for range 4 {
			load.work(t, short)
		}
		load.work(t, func(ctx context.Context) error { return client.Down(ctx, streamedBytes) })
		load.work(t, func(ctx context.Context) error { return client.Up(ctx, streamedBytes) })
	}
	return load
}

func (l *restartLoad) work(t *testing.T, call func(context.Context) error) {
	l.workers.Add(1)
	go func() {
		defer l.workers.Done()
		for !l.stopped.Load() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := call(ctx)
			cancel()
			if err != nil {
				select {
				case l.failed <- err:
				default:
				}
				return
			}
			l.calls.Add(1)
		}
	}()
}

func (l *restartLoad) awaitCalls(t *testing.T, count int64) {
	t.Helper()
	until := l.calls.Load() + count
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.calls.Load() < until {
		select {
		case err := <-l.failed:
			t.Fatalf("a call failed: %v", err)
		case <-deadline:
			t.Fatalf("no %d calls in %s", count, patience)
		case <-tick.C:
		}
	}
}

func (l *restartLoad) stop(t *testing.T) {
	t.Helper()
	l.stopped.Store(true)
	l.workers.Wait()
	select {
	case err := <-l.failed:
		t.Errorf("a call failed: %v", err)
	default:
		t.Logf("%d calls", l.calls.Load())
	}
}
