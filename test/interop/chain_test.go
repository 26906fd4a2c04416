package interop_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// clientName is in the certificate that the first proxy presents.
const clientName = "rails.internal"

// chain is two proxies in a row: the first takes plaintext where a Gitaly client runs and presents a certificate, the
// second, in front of the service, requires one.
type chain struct {
	gitaly        *service.Server
	first, second *proxy.Proxy
	// urls are where the first listens: a unix socket and a TCP port.
	urls []string
}

func startChain(t *testing.T, presentsCertificate bool) *chain {
	t.Helper()
	servers, clients := authority.New(t), authority.New(t)
	server, client := servers.Server(t), clients.Client(t, clientName)
	gitaly := startService(t, "unix:"+socketPath(t), nil)
	entrance := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: gitaly.URL}
	second := proxy.Start(t, proxy.Configuration{
		TLS: &proxy.TLS{
			CertificatePath: server.CertificatePath,
			KeyPath:         server.KeyPath,
			ClientAuth:      "require",
			ClientCAPath:    clients.CertificatePath,
		},
		Listeners: []proxy.Listener{entrance},
	})
	upstream := &proxy.UpstreamTLS{CAPath: servers.CertificatePath, ServerName: authority.Host}
	if presentsCertificate {
		upstream.CertificatePath, upstream.KeyPath = client.CertificatePath, client.KeyPath
	}
	forward := second.URL(t, entrance)
	listeners := []proxy.Listener{
		{Listen: "unix:" + socketPath(t), Forward: forward, UpstreamTLS: upstream},
		{Listen: "tcp://127.0.0.1:0", Forward: forward, UpstreamTLS: upstream},
	}
	first := proxy.Start(t, proxy.Configuration{Listeners: listeners})
	result := &chain{gitaly: gitaly, first: first, second: second}
	for _, listener := range listeners {
		result.urls = append(result.urls, first.URL(t, listener))
	}
	return result
}

func TestTwoProxiesInARowCarryClientCertificates(t *testing.T) {
	t.Parallel()
	proxies := startChain(t, true)
	connections := map[string]int{}
	for _, url := range proxies.urls {
		for _, protocol := range everyProtocol {
			scheme, _, _ := strings.Cut(url, ":")
			t.Run(scheme+"/"+string(protocol), func(t *testing.T) {
				connections[string(protocol)]++
				client := dial(t, url, protocol, nil)
				exerciseEverything(t, client, protocol)
			})
		}
	}
	expectConnections(t, proxies.first.Stop(t), connections)
	lines := proxies.second.Stop(t)
	expectConnections(t, lines, connections)
	for _, line := range lines {
		if line.CloseReason != "" && !strings.Contains(line.PeerIdentity, clientName) {
			t.Errorf("the client's identity is missing: %s", line.Text)
		}
	}
}

func TestTwoProxiesInARowMoveLargeSidechannels(t *testing.T) {
	t.Parallel()
	proxies := startChain(t, true)
	t.Run("down and up", func(t *testing.T) {
		client := dial(t, proxies.urls[0], service.Backchannel, nil)
		if err := client.Sidechannel(patiently(t), 0, sidechannelBytes); err != nil {
			t.Error(err)
		}
		if err := client.Sidechannel(patiently(t), sidechannelBytes, 0); err != nil {
			t.Error(err)
		}
	})
	connections := map[string]int{string(service.Backchannel): 1}
	expectConnections(t, proxies.first.Stop(t), connections)
	expectConnections(t, proxies.second.Stop(t), connections)
}

func TestSecondProxyRefusesAFirstWithoutCertificate(t *testing.T) {
	t.Parallel()
	proxies := startChain(t, false)
	for _, protocol := range everyProtocol {
		t.Run(string(protocol), func(t *testing.T) {
			client := dial(t, proxies.urls[0], protocol, nil)
			if err := client.Health(patiently(t)); status.Code(err) != codes.Unauthenticated {
				t.Errorf("got %v", err)
			}
		})
	}
	proxies.second.Await(t, "a refused client certificate", func(line proxy.Line) bool {
		return line.CloseReason == "client_certificate_refused"
	})
	proxies.first.Stop(t)
	proxies.second.Stop(t)
	if proxies.gitaly.Accepted() != 0 {
		t.Errorf("the service was dialled %d times", proxies.gitaly.Accepted())
	}
}

// TestClientCertificateOfGrpcGoIsVerified is the same without a first proxy: a client that can present certificates.
func TestClientCertificateOfGrpcGoIsVerified(t *testing.T) {
	t.Parallel()
	servers, clients, strangers := authority.New(t), authority.New(t), authority.New(t)
	server := servers.Server(t)
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: gitaly.URL}
	running := proxy.Start(t, proxy.Configuration{
		TLS: &proxy.TLS{
			CertificatePath: server.CertificatePath,
			KeyPath:         server.KeyPath,
			ClientAuth:      "require",
			ClientCAPath:    clients.CertificatePath,
		},
		Listeners: []proxy.Listener{listener},
	})
	url := running.URL(t, listener)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, client := range []struct {
			name string
			pair *authority.Pair
			want codes.Code
		}{
			{"no certificate", nil, codes.Unauthenticated},
			{"wrong authority", pointer(strangers.Client(t, "stranger")), codes.Unauthenticated},
			{"server certificate", pointer(clients.Server(t)), codes.Unauthenticated},
			{"client certificate", pointer(clients.Client(t, clientName)), codes.OK},
		} {
			for _, protocol := range everyProtocol {
				t.Run(tls.VersionName(version)+"/"+client.name+"/"+string(protocol), func(t *testing.T) {
					config := clientTLS(servers)
					config.MinVersion, config.MaxVersion = version, version
					if client.pair != nil {
						// Given so, and not in Certificates, it is presented whatever authorities the server names.
						config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
							return &client.pair.TLS, nil
						}
					}
					err := dial(t, url, protocol, config).Health(patiently(t))
					if status.Code(err) != client.want {
						t.Errorf("got %v, want %s", err, client.want)
					}
				})
			}
		}
	}
	running.Stop(t)
	if want := int64(2 * len(everyProtocol)); gitaly.Accepted() != want {
		t.Errorf("the service was dialled %d times, want %d", gitaly.Accepted(), want)
	}
}

// TestEveryPairOfSchemesRelays goes through the listeners that the other tests do not have: plaintext to plaintext.
func TestEveryPairOfSchemesRelays(t *testing.T) {
	t.Parallel()
	overTCP := startService(t, "tcp://127.0.0.1:0", nil)
	overUnix := startService(t, "unix:"+socketPath(t), nil)
	var listeners []proxy.Listener
	for _, gitaly := range []*service.Server{overTCP, overUnix} {
		listeners = append(listeners,
			proxy.Listener{Listen: "tcp://127.0.0.1:0", Forward: gitaly.URL},
			proxy.Listener{Listen: "unix:" + socketPath(t), Forward: gitaly.URL},
		)
	}
	running := proxy.Start(t, proxy.Configuration{Listeners: listeners})
	connections := map[string]int{}
	for _, listener := range listeners {
		from, _, _ := strings.Cut(listener.Listen, ":")
		to, _, _ := strings.Cut(listener.Forward, ":")
		for _, protocol := range everyProtocol {
			t.Run(from+" to "+to+"/"+string(protocol), func(t *testing.T) {
				connections[string(protocol)]++
				exerciseEverything(t, dial(t, running.URL(t, listener), protocol, nil), protocol)
			})
		}
	}
	expectConnections(t, running.Stop(t), connections)
}

// exerciseEverything makes one call of each kind.
func exerciseEverything(t *testing.T, client *service.Client, protocol service.Protocol) {
	t.Helper()
	ctx := patiently(t)
	if _, err := client.Unary(ctx, []byte("unary")); err != nil {
		t.Error(err)
	}
	if err := client.Down(ctx, streamedBytes); err != nil {
		t.Error(err)
	}
	if err := client.Up(ctx, streamedBytes); err != nil {
		t.Error(err)
	}
	if protocol != service.Backchannel {
		return
	}
	if err := client.Sidechannel(ctx, streamedBytes, streamedBytes); err != nil {
		t.Error(err)
	}
	if _, err := client.CallBack(ctx, []byte("reverse")); err != nil {
		t.Error(err)
	}
}

func pointer[T any](value T) *T { return &value }
