package interop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// noApplicationProtocol is the TLS record of a fatal alert 120 (RFC 7301 section 3.2) that answers a ClientHello.
var noApplicationProtocol = []byte{0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x78}

// TestGrpcGoEnforcesALPN proves of the other tests that their clients would notice a proxy that answers no ALPN.
func TestGrpcGoEnforcesALPN(t *testing.T) {
	t.Parallel()
	ca := authority.New(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Server(t).TLS}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// Reading does the handshake and waits until the client leaves.
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	for _, protocol := range everyProtocol {
		client := dial(t, "tls://"+listener.Addr().String(), protocol, clientTLS(ca))
		err := client.Health(patiently(t))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "missing selected ALPN property") {
			t.Errorf("%s: got %v", protocol, err)
		}
	}
}

// withoutALPN starts a proxy in front of a service; allowed is its require_alpn: false.
func withoutALPN(t *testing.T, allowed bool) (*service.Server, *proxy.Proxy, string, *authority.Authority) {
	t.Helper()
	ca := authority.New(t)
	pair := ca.Server(t)
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: gitaly.URL}
	settings := &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath}
	if allowed {
		requireALPN := false
		settings.RequireALPN = &requireALPN
	}
	running := proxy.Start(t, proxy.Configuration{TLS: settings, Listeners: []proxy.Listener{listener}})
	return gitaly, running, strings.TrimPrefix(running.URL(t, listener), "tls://"), ca
}

func TestClientsWithoutH2AreRefusedWithTheAlert(t *testing.T) {
	t.Parallel()
	gitaly, running, address, ca := withoutALPN(t, false)
	for name, offered := range map[string][]string{
		"no ALPN at all":   nil,
		"other protocols":  {"http/1.1"},
		"a name like h2":   {"h2c", "H2"},
		"an unknown thing": {"gitaly"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			raw, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			recorded := &recordingConn{Conn: raw}
			config := clientTLS(ca)
			config.NextProtos, config.MinVersion, config.MaxVersion = offered, version, version
			if err := tls.Client(recorded, config).HandshakeContext(patiently(t)); err == nil {
				t.Errorf("%s, %s: the handshake was let through", name, tls.VersionName(version))
			}
			if !bytes.Equal(recorded.received, noApplicationProtocol) {
				t.Errorf("%s, %s: the answer is % x, want % x",
					name, tls.VersionName(version), recorded.received, noApplicationProtocol)
			}
			if err := raw.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	refused := 0
	for _, line := range running.Stop(t) {
		if line.CloseReason == "handshake_failed" {
			refused++
		}
	}
	if refused != 8 {
		t.Errorf("the log has %d refusals, want 8", refused)
	}
	if gitaly.Accepted() != 0 {
		t.Errorf("the service was dialled %d times", gitaly.Accepted())
	}
}

func TestClientsWithoutALPNPassWhereAllowed(t *testing.T) {
	t.Parallel()
	_, running, address, ca := withoutALPN(t, true)
	// grpc-go's own TLS always offers h2, so TLS is done beneath it.
	dialer := grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
		return (&tls.Dialer{Config: clientTLS(ca)}).DialContext(ctx, "tcp", target)
	})
	connections := map[string]int{}
	for _, protocol := range everyProtocol {
		connections[string(protocol)] = 1
		t.Run(string(protocol), func(t *testing.T) {
			client := dial(t, "tcp://"+address, protocol, nil, dialer)
			if _, err := client.Unary(patiently(t), []byte("without ALPN")); err != nil {
				t.Fatal(err)
			}
		})
	}
	expectConnections(t, running.Stop(t), connections)
}

// recordingConn keeps what it received, TLS records as they were on the wire.
type recordingConn struct {
	net.Conn
	received []byte
}

func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received = append(c.received, p[:n]...)
	return n, err
}
