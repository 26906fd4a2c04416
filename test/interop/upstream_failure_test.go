package interop_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// startInFront runs a proxy with one tls:// listener and gives its address and the authority of its certificate.
func startInFront(t *testing.T, forward string) (*proxy.Proxy, string, *authority.Authority) {
	t.Helper()
	ca := authority.New(t)
	pair := ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: forward}
	running := proxy.Start(t, proxy.Configuration{
		TLS:       &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners: []proxy.Listener{listener},
	})
	return running, running.URL(t, listener), ca
}

func TestUpstreamDownIsUnavailableUntilItIsBack(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	running, url, ca := startInFront(t, "unix:"+path)
	for _, protocol := range everyProtocol {
		t.Run("down/"+string(protocol), func(t *testing.T) {
			client := dial(t, url, protocol, clientTLS(ca))
			err := client.Health(patiently(t))
			if status.Code(err) != codes.Unavailable {
				t.Fatalf("got %v", err)
			}
			// Only over plain gRPC can the proxy say why; in the backchannel the client sees the close.
			if protocol == service.HTTP2 && !strings.Contains(status.Convert(err).Message(), path) {
				t.Errorf("the message does not name the address: %v", err)
			}
		})
	}
	startService(t, "unix:"+path, nil)
	for _, protocol := range everyProtocol {
		t.Run("back/"+string(protocol), func(t *testing.T) {
			if err := dial(t, url, protocol, clientTLS(ca)).Health(patiently(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
	running.Stop(t)
}

func TestStreamCutByUpstreamIsAnErrorForTheClient(t *testing.T) {
	t.Parallel()
	for _, protocol := range everyProtocol {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			gitaly, err := service.Start("tcp://127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			running, url, ca := startInFront(t, gitaly.URL)
			client, err := service.Dial(url, protocol, clientTLS(ca))
			if err != nil {
				t.Fatal(err)
			}
			chat, err := client.Chat(patiently(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := chat.Say([]byte("before")); err != nil {
				t.Fatal(err)
			}
			if err := gitaly.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := chat.Say([]byte("after")); status.Code(err) != codes.Unavailable {
				t.Errorf("the stream ended with %v", err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			running.Stop(t)
		})
	}
}

func TestSidechannelCutByUpstreamNeverLooksComplete(t *testing.T) {
	t.Parallel()
	gitaly, err := service.Start("tcp://127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	running, url, ca := startInFront(t, gitaly.URL)
	client, err := service.Dial(url, service.Backchannel, clientTLS(ca))
	if err != nil {
		t.Fatal(err)
	}
	const endless = 1 << 40
	var cut error
	_, err = client.SidechannelFunc(patiently(t), endless, func(sidechannel *backchannel.Sidechannel) error {
		if _, err := io.CopyN(io.Discard, sidechannel, streamedBytes); err != nil {
			return err
		}
		if err := gitaly.Stop(); err != nil {
			return err
		}
		_, cut = io.Copy(io.Discard, sidechannel)
		return nil
	})
	if !errors.Is(cut, io.ErrUnexpectedEOF) {
		t.Errorf("the sidechannel ended with %v", cut)
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the call ended with %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	running.Stop(t)
}
