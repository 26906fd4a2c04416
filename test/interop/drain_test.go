package interop_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// drain sends SIGTERM, waits until the proxy has taken it, and asserts that nobody new gets in. Its kernel may still
// have taken a connection when the line was logged, so it is the handshake that must not succeed.
func drain(t *testing.T, running *proxy.Proxy, url string, ca *authority.Authority) {
	t.Helper()
	running.Terminate(t)
	running.Await(t, "that it drains", func(line proxy.Line) bool {
		return line.Event == "draining"
	})
	newcomer := &tls.Dialer{Config: h2Only(ca)}
	if conn, err := newcomer.DialContext(patiently(t), "tcp", strings.TrimPrefix(url, "tls://")); err == nil {
		t.Error("a new client was let in while draining")
		_ = conn.Close()
	}
}

func TestOpenStreamGoesOnWhileTheProxyDrains(t *testing.T) {
	t.Parallel()
	for _, protocol := range everyProtocol {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			gitaly := startService(t, "tcp://127.0.0.1:0", nil)
			running, url, ca := startInFront(t, gitaly.URL)
			client, chat := openChat(t, url, protocol, ca)
			drain(t, running, url, ca)
			if err := chat.Say([]byte("still here")); err != nil {
				t.Error(err)
			}
			if err := chat.Close(); err != nil {
				t.Error(err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			expectConnections(t, running.Exited(t), map[string]int{string(protocol): 1})
		})
	}
}

func openChat(
	t *testing.T, url string, protocol service.Protocol, ca *authority.Authority,
) (*service.Client, *service.Chat) {
	t.Helper()
	client, err := service.Dial(url, protocol, clientTLS(ca))
	if err != nil {
		t.Fatal(err)
	}
	chat, err := client.Chat(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.Say([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	return client, chat
}

func TestRunningSidechannelFinishesWhileTheProxyDrains(t *testing.T) {
	t.Parallel()
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	running, url, ca := startInFront(t, gitaly.URL)
	client, err := service.Dial(url, service.Backchannel, clientTLS(ca))
	if err != nil {
		t.Fatal(err)
	}
	received := int64(0)
	_, err = client.SidechannelFunc(patiently(t), streamedBytes, func(sidechannel *backchannel.Sidechannel) error {
		first, err := io.CopyN(io.Discard, sidechannel, streamedBytes/2)
		if err != nil {
			return err
		}
		drain(t, running, url, ca)
		rest, err := io.Copy(io.Discard, sidechannel)
		if err != nil {
			return err
		}
		received = first + rest
		return sidechannel.CloseWrite()
	})
	if err != nil || received != streamedBytes {
		t.Errorf("%d of %d bytes arrived (%v)", received, int64(streamedBytes), err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	expectConnections(t, running.Exited(t), map[string]int{string(service.Backchannel): 1})
}

// TestClientThatLeftWithinTheHandshakeIsNotWaitedFor has a client that closes after the ClientHello without an alert, as
// one does that is killed or that judges the certificate by itself.
func TestClientThatLeftWithinTheHandshakeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	running, url, ca := startInFront(t, gitaly.URL)
	raw, err := net.Dial("tcp", strings.TrimPrefix(url, "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(&leavingConn{Conn: raw}, h2Only(ca)).HandshakeContext(patiently(t)); err == nil {
		t.Fatal("the handshake went on without the client")
	}
	end := running.Await(t, "the end of the handshake", func(line proxy.Line) bool { return line.CloseReason != "" })
	if end.CloseReason != "handshake_failed" || end.CloseInitiator != "client" {
		t.Errorf("a client that left is logged otherwise: %s", end.Text)
	}
	running.Stop(t)
	if gitaly.Accepted() != 0 {
		t.Errorf("the service was dialled %d times", gitaly.Accepted())
	}
}

// leavingConn sends the ClientHello and closes when it should send more.
type leavingConn struct {
	net.Conn
	greeted bool
}

func (c *leavingConn) Write(p []byte) (int, error) {
	if c.greeted {
		return 0, errors.Join(net.ErrClosed, c.Close())
	}
	c.greeted = true
	return c.Conn.Write(p)
}

// h2Only is TLS beneath grpc-go, which adds h2 by itself.
func h2Only(ca *authority.Authority) *tls.Config {
	config := clientTLS(ca)
	config.NextProtos = []string{"h2"}
	return config
}
