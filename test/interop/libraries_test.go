package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// everyLibrary has the implementations of yamux that Gitaly and its clients use, in their versions.
var everyLibrary = []backchannel.Library{backchannel.Hashicorp, backchannel.Libp2p}

// libraryPair is a client of one library whose connection to a server of the other, or the same, is relayed.
type libraryPair struct {
	name   string
	client *service.Client
	server *service.Server
}

// libraryPairs has one proxy between clients and servers of each library, with policy on its listeners. The caller closes the
// clients.
func libraryPairs(
	t *testing.T, configuration proxy.Configuration, policy *proxy.Policy,
) (*proxy.Proxy, []libraryPair) {
	t.Helper()
	ca := authority.New(t)
	pair := ca.Server(t)
	if policy != nil {
		configuration.RPCsPath = filepath.Join(t.TempDir(), "rpcs.tsv")
		if err := os.WriteFile(configuration.RPCsPath, []byte(service.RPCs), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configuration.TLS = &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath}
	var servers []*service.Server
	for _, library := range everyLibrary {
		server, err := service.StartWith(library, "tcp://127.0.0.1:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		servers = append(servers, server)
		configuration.Listeners = append(configuration.Listeners,
			proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: server.URL, Policy: policy})
	}
	running := proxy.Start(t, configuration)
	var pairs []libraryPair
	for index, server := range everyLibrary {
		url := running.URL(t, configuration.Listeners[index])
		for _, library := range everyLibrary {
			client, err := service.DialBackchannel(url, library, clientTLS(ca))
			if err != nil {
				t.Fatal(err)
			}
			pairs = append(pairs, libraryPair{fmt.Sprintf("%s to %s", library, server), client, servers[index]})
		}
	}
	return running, pairs
}

// onEachPair runs promise for all pairs at once.
func onEachPair(t *testing.T, pairs []libraryPair, promise func(context.Context, *service.Client) error) {
	t.Helper()
	results := make(chan error, len(pairs))
	ctx := patiently(t)
	for _, pair := range pairs {
		go func() {
			err := promise(ctx, pair.client)
			if err != nil {
				err = fmt.Errorf("%s: %w", pair.name, err)
			}
			results <- err
		}()
	}
	for range pairs {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func closeAll(t *testing.T, pairs []libraryPair) {
	t.Helper()
	for _, pair := range pairs {
		if err := pair.client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// everyKindOfCall makes calls of each kind, sidechannels in both directions, and has the server call back.
func everyKindOfCall(ctx context.Context, client *service.Client) error {
	var failures []error
	failures = append(failures, client.Health(ctx), client.Down(ctx, streamedBytes), client.Up(ctx, streamedBytes))
	_, err := client.Unary(ctx, []byte("unary"))
	failures = append(failures, err, client.Sidechannel(ctx, streamedBytes, streamedBytes))
	_, err = client.CallBack(ctx, []byte("reverse"))
	return errors.Join(append(failures, err)...)
}

func TestYamuxLibrariesCarryCallsAndSidechannels(t *testing.T) {
	t.Parallel()
	running, pairs := libraryPairs(t, proxy.Configuration{}, nil)
	onEachPair(t, pairs, everyKindOfCall)
	closeAll(t, pairs)
	lines := running.Stop(t)
	expectConnections(t, lines, map[string]int{string(service.Backchannel): len(pairs)})
	expectFollowed(t, lines)
}

// expectFollowed asserts that the proxy has understood all that passed.
func expectFollowed(t *testing.T, lines []proxy.Line) {
	t.Helper()
	for _, line := range lines {
		if line.Event == "inspection_lost" {
			t.Errorf("a connection was not followed: %s", line.Text)
		}
	}
}

func TestYamuxLibrariesFinishTheirCallsWhileTheProxyDrains(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]*proxy.Policy{"without a policy": nil, "with a policy": uploadsRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finishWhileDraining(t, policy)
		})
	}
}

func finishWhileDraining(t *testing.T, policy *proxy.Policy) {
	t.Helper()
	running, pairs := libraryPairs(t, proxy.Configuration{}, policy)
	opened := make(chan struct{}, len(pairs))
	draining := make(chan struct{})
	go func() {
		for range pairs {
			<-opened
		}
		running.Terminate(t)
		running.Await(t, "that it drains", func(line proxy.Line) bool { return line.Event == "draining" })
		close(draining)
	}()
	onEachPair(t, pairs, func(ctx context.Context, client *service.Client) error {
		announced := false
		announce := func() {
			if !announced {
				opened <- struct{}{}
			}
			announced = true
		}
		// A pair that fails must not keep the others waiting.
		defer announce()
		chat, err := client.Chat(ctx)
		if err != nil {
			return err
		}
		if err := chat.Say([]byte("hello")); err != nil {
			return err
		}
		received := int64(0)
		_, err = client.SidechannelFunc(ctx, streamedBytes, func(sidechannel *backchannel.Sidechannel) error {
			first, err := io.CopyN(io.Discard, sidechannel, streamedBytes/2)
			if err != nil {
				return err
			}
			announce()
			select {
			case <-draining:
			case <-ctx.Done():
				return ctx.Err()
			}
			rest, err := io.Copy(io.Discard, sidechannel)
			received = first + rest
			return errors.Join(err, sidechannel.CloseWrite())
		})
		if received != streamedBytes {
			err = errors.Join(err, fmt.Errorf("%d of %d bytes arrived", received, int64(streamedBytes)))
		}
		return errors.Join(err, chat.Say([]byte("still here")), chat.Close())
	})
	lines := running.Exited(t)
	closeAll(t, pairs)
	expectConnections(t, lines, map[string]int{string(service.Backchannel): len(pairs)})
	expectFollowed(t, lines)
}

func TestYamuxLibrariesCloseAtALimit(t *testing.T) {
	t.Parallel()
	const calls = 10
	running, pairs := libraryPairs(t, proxy.Configuration{AbuseLimits: map[string]any{"calls_per_connection": calls}}, nil)
	onEachPair(t, pairs, func(ctx context.Context, client *service.Client) error {
		var err error
		for index := 0; err == nil && index <= calls; index++ {
			_, err = client.Block(ctx, fmt.Sprint(index))
		}
		if status.Code(err) != codes.Unavailable {
			return fmt.Errorf("too many calls ended with %w", err)
		}
		return nil
	})
	closeAll(t, pairs)
	abused := 0
	for _, line := range running.Stop(t) {
		if line.CloseReason == "abuse" {
			abused++
		}
	}
	if abused < len(pairs) {
		t.Errorf("%d of %d connections were closed for too many calls", abused, len(pairs))
	}
}

// uploadsRefused allows the service's calls, except for uploads.
var uploadsRefused = &proxy.Policy{
	Mode:  "enforce",
	Rules: []proxy.Rule{{Identities: []string{"*"}, Allow: []string{"accessor", "grpc.health.v1.Health/Check"}}},
}

// refusedUploadBytes is more than every window and queue on the way can take.
const refusedUploadBytes = 64 << 20

func TestYamuxLibrariesServeAllowedCallsAmongRefusedOnes(t *testing.T) {
	t.Parallel()
	running, pairs := libraryPairs(t, proxy.Configuration{}, uploadsRefused)
	onEachPair(t, pairs, func(ctx context.Context, client *service.Client) error {
		if err := allowedCalls(ctx, client); err != nil {
			return err
		}
		// Refused calls with large bodies one after another: whatever window they take must come back.
		for range 10 {
			if err := refused(client.Up(ctx, refusedUploadBytes)); err != nil {
				return err
			}
		}
		const workers, rounds = 8, 50
		results := make(chan error, workers)
		for worker := range workers {
			go func() { results <- mix(ctx, client, worker, rounds) }()
		}
		var failures []error
		for range workers {
			failures = append(failures, <-results)
		}
		return errors.Join(append(failures, allowedCalls(ctx, client))...)
	})
	closeAll(t, pairs)
	for _, pair := range pairs {
		if uploads := pair.server.Uploads(); uploads != 0 {
			t.Errorf("%s: %d refused calls were served", pair.name, uploads)
		}
	}
	lines := running.Stop(t)
	expectConnections(t, lines, map[string]int{string(service.Backchannel): len(pairs)})
	expectFollowed(t, lines)
}

// mix makes allowed and refused calls in turn.
func mix(ctx context.Context, client *service.Client, worker, rounds int) error {
	for round := range rounds {
		request := fmt.Appendf(nil, "%d of %d %*s", round, worker, round*100, "")
		answer, err := client.Unary(ctx, request)
		if err == nil && string(answer) != string(request) {
			err = fmt.Errorf("the answer to %d bytes differs from them", len(request))
		}
		if err := errors.Join(err, refused(client.Up(ctx, int64(round)*1000))); err != nil {
			return err
		}
	}
	return nil
}

func refused(err error) error {
	if status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("a call that is not allowed ended with %w", err)
	}
	return nil
}

// allowedCalls makes calls of each kind that uploadsRefused allows. Each moves more than a window.
func allowedCalls(ctx context.Context, client *service.Client) error {
	_, unary := client.Unary(ctx, make([]byte, 1<<20))
	_, callBack := client.CallBack(ctx, []byte("reverse"))
	return errors.Join(
		unary, client.Health(ctx), client.Down(ctx, streamedBytes), client.Sidechannel(ctx, streamedBytes, streamedBytes), callBack,
	)
}
