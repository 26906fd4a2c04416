package interop_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// patience bounds every call: far above what any takes, so that it decides nothing but how long a hang lasts.
const patience = time.Minute

var (
	everyProtocol   = []service.Protocol{service.HTTP2, service.Backchannel}
	backchannelOnly = []service.Protocol{service.Backchannel}
)

// route is a way to the service: directly, as the reference, or through the proxy.
type route struct {
	name    string
	url     string
	proxied bool
}

// onEveryRoute keeps one promise over each of the protocols on each route: direct and through the proxy, over TCP and
// unix sockets. It ends by asserting that the proxy recognised each connection and that none was left over.
func onEveryRoute(
	t *testing.T, protocols []service.Protocol, promise func(*testing.T, *service.Client),
) {
	t.Parallel()
	ca := authority.New(t)
	pair := ca.Server(t)
	overTCP := startService(t, "tcp://127.0.0.1:0", nil)
	overTLS := startService(t, "tcp://127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS}})
	overUnix := startService(t, "unix:"+socketPath(t), nil)
	toTCP := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: overTCP.URL}
	toUnix := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: overUnix.URL}
	running := proxy.Start(t, proxy.Configuration{
		TLS:       &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners: []proxy.Listener{toTCP, toUnix},
	})
	connections := map[string]int{}
	for _, route := range []route{
		{name: "direct over TCP", url: overTCP.URL},
		{name: "direct over TLS", url: overTLS.URL},
		{name: "proxy to TCP", url: running.URL(t, toTCP), proxied: true},
		{name: "proxy to unix socket", url: running.URL(t, toUnix), proxied: true},
	} {
		for _, protocol := range protocols {
			t.Run(route.name+"/"+string(protocol), func(t *testing.T) {
				if route.proxied {
					connections[string(protocol)]++
				}
				promise(t, dial(t, route.url, protocol, clientTLS(ca)))
			})
		}
	}
	expectConnections(t, running.Stop(t), connections)
}

// expectConnections asserts that the log has one line for each connection, with its protocol, and that each ended as
// clients end, or idle in a drain. ECONNRESET is one such end: a client may leave with bytes unread.
func expectConnections(t *testing.T, lines []proxy.Line, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, line := range lines {
		if line.CloseReason == "" {
			continue
		}
		got[line.Protocol]++
		switch line.CloseReason {
		case "finished", "reset", "drained":
		default:
			t.Errorf("a connection ended otherwise than its client did: %s", line.Text)
		}
	}
	for _, protocol := range []string{string(service.HTTP2), string(service.Backchannel), "unknown"} {
		if got[protocol] != want[protocol] {
			t.Errorf("the log has %d connections with protocol %s, want %d", got[protocol], protocol, want[protocol])
		}
	}
}

// startService runs the service until the end of the test.
func startService(t *testing.T, listen string, config *tls.Config) *service.Server {
	t.Helper()
	server, err := service.Start(listen, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// dial makes a client that is closed with the (sub)test.
func dial(
	t *testing.T, url string, protocol service.Protocol, config *tls.Config, options ...grpc.DialOption,
) *service.Client {
	t.Helper()
	client, err := service.Dial(url, protocol, config, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func clientTLS(ca *authority.Authority) *tls.Config {
	return &tls.Config{RootCAs: ca.Pool(), ServerName: authority.Host}
}

// socketPath is short: the name of a unix socket has about 100 bytes, which t.TempDir easily exceeds.
func socketPath(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "interop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(directory); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(directory, "gitaly.socket")
}

// patiently is a context for the calls of one (sub)test.
func patiently(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
