package gitaly

import (
	"crypto/tls"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
)

// unreachable is what a push says whose gate, or egress, has no GitLab behind it. The words are the proxy's.
const unreachable = `(?m)^remote: GitLab: GitLab cannot be reached at the moment: please try again\s*$`

// hooksOfAPush are the calls of one push, in their order.
var hooksOfAPush = []string{"allowed", "pre_receive", "post_receive"}

// testGate has real Gitalys call GitLab's internal API through the proxy: by a gate that wants their certificate, and by
// egress that presents one for them.
func (c *common) testGate(t *testing.T) {
	g := &gateSetup{common: c, source: makeRepository(t, 1, 100)}
	t.Run("a push passes the gate by Gitaly's own certificate", g.testOwnCertificate)
	t.Run("a Gitaly without a good certificate is refused, and git says so", g.testRefused)
	t.Run("a push whose gate has no GitLab behind it says so, and passes when it is back", g.testDown)
	t.Run("egress presents a certificate for a Gitaly that calls http:// and http+unix://", g.testEgress)
}

type gateSetup struct {
	*common
	// source is a local repository, which is pushed.
	source string
}

// gate runs one that wants certificates, in front of GitLab's API at an address.
func (g *gateSetup) gate(t *testing.T, forward string) (running *proxy.Proxy, url string) {
	t.Helper()
	server := g.ca.Server(t)
	listener := proxy.Listener{Listen: "https://127.0.0.1:0", Forward: forward, ClientCertificateHeaders: true}
	running = proxy.Start(t, proxy.Configuration{
		TLS: &proxy.TLS{
			CertificatePath: server.CertificatePath, KeyPath: server.KeyPath,
			ClientAuth: "require", ClientCAPath: g.ca.CertificatePath,
		},
		Listeners: []proxy.Listener{listener},
	})
	t.Cleanup(func() { running.Stop(t) })
	return running, running.URL(t, listener)
}

// gitaly runs one that calls GitLab at a URL and presents a certificate, if it has one.
func (g *gateSetup) gitaly(t *testing.T, url string, certificate authority.Pair) string {
	t.Helper()
	gitlab := GitLab{URL: url, CAFile: g.ca.CertificatePath, Certificate: certificate}
	return "tcp://" + StartFor(t, g.binaries, "default", gitlab).Address
}

// refusal is what git says of a push that fails.
func (g *gateSetup) refusal(t *testing.T, address, path string) string {
	t.Helper()
	g.create(t, address, path)
	_, err := tryGit(t, g.source, g.gitEnvironment(address, path, "receive-pack", false), "push", remote, "main")
	if err == nil {
		t.Fatal("the push passed")
	}
	return err.Error()
}

func (g *gateSetup) testOwnCertificate(t *testing.T) {
	api := StartAPI(t)
	running, url := g.gate(t, api.URL)
	address := g.gitaly(t, url, g.ca.Gitaly(t, "gitaly-a.internal"))
	api.TakeCalls()
	g.push(t, address, "pushed.git", g.source)
	wantHooks(t, api, APICall{Identity: "gitaly-a.internal", HasToken: true})
	line := running.Await(t, "the push", func(line proxy.Line) bool {
		return line.Event == "http_request_finished" && line.Method == "POST" && line.Status == 200
	})
	if line.PeerIdentity != "gitaly-a.internal" {
		t.Errorf("the log says that it was %q: %s", line.PeerIdentity, line.Text)
	}
}

func (g *gateSetup) testRefused(t *testing.T) {
	const message = `(?m)^remote: GitLab: client certificate missing or rejected; the log of gitaly-tls-proxy contains the reason\s*$`
	for name, refused := range map[string]struct {
		certificate authority.Pair
		logged      string
	}{
		"none":                 {authority.Pair{}, `the client sent no certificate and client_auth is require`},
		"one for servers only": {g.ca.Server(t), `INVALID_PURPOSE.*issue one with serverAuth and clientAuth`},
	} {
		t.Run(name, func(t *testing.T) {
			api := StartAPI(t)
			running, url := g.gate(t, api.URL)
			said := g.refusal(t, g.gitaly(t, url, refused.certificate), "refused.git")
			if !regexp.MustCompile(message).MatchString(said) {
				t.Errorf("git says %q", said)
			}
			if calls := api.TakeCalls(); len(calls) > 0 {
				t.Errorf("GitLab was called: %v", calls)
			}
			running.Await(t, "why it was refused", func(line proxy.Line) bool {
				return line.CloseReason == "client_certificate_refused" && regexp.MustCompile(refused.logged).MatchString(line.Text)
			})
		})
	}
}

func (g *gateSetup) testDown(t *testing.T) {
	path := filepath.Join(socketDirectory(t), "gitlab.socket")
	api := StartAPIAt(t, path)
	_, url := g.gate(t, api.URL)
	address := g.gitaly(t, url, g.ca.Gitaly(t, "gitaly-c.internal"))
	api.Stop()
	if said := g.refusal(t, address, "down.git"); !regexp.MustCompile(unreachable).MatchString(said) {
		t.Errorf("git says %q", said)
	}
	back := StartAPIAt(t, path)
	g.push(t, address, "back.git", g.source)
	wantHooks(t, back, APICall{Identity: "gitaly-c.internal", HasToken: true})
}

func (g *gateSetup) testEgress(t *testing.T) {
	api := StartAPIWithTLS(t, &tls.Config{
		Certificates: []tls.Certificate{g.ca.Server(t).TLS},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    g.ca.Pool(),
	})
	client := g.ca.Client(t, "egress.internal")
	byPort := proxy.Listener{Listen: "http://127.0.0.1:0"}
	bySocket := proxy.Listener{Listen: "unix:" + filepath.Join(socketDirectory(t), "egress.socket")}
	listeners := []*proxy.Listener{&byPort, &bySocket}
	for _, listener := range listeners {
		listener.Forward = api.URL
		listener.UpstreamTLS = &proxy.UpstreamTLS{
			CAPath: g.ca.CertificatePath, CertificatePath: client.CertificatePath, KeyPath: client.KeyPath,
		}
	}
	running := proxy.Start(t, proxy.Configuration{Listeners: []proxy.Listener{byPort, bySocket}})
	t.Cleanup(func() { running.Stop(t) })
	urls := map[string]string{
		"http":      running.URL(t, byPort),
		"http+unix": "http+unix://" + strings.TrimPrefix(bySocket.Listen, "unix:"),
	}
	gitalys := map[string]string{}
	for name, url := range urls {
		gitalys[name] = g.gitaly(t, url, authority.Pair{})
		api.TakeCalls()
		t.Run(name, func(t *testing.T) {
			g.push(t, gitalys[name], "pushed.git", g.source)
			wantHooks(t, api, APICall{Certificate: "egress.internal", HasToken: true})
		})
	}
	api.Stop()
	for name, address := range gitalys {
		t.Run(name+", GitLab down", func(t *testing.T) {
			if said := g.refusal(t, address, "down.git"); !regexp.MustCompile(unreachable).MatchString(said) {
				t.Errorf("git says %q", said)
			}
		})
	}
}

// wantHooks finds the calls of one push, each with what one has.
func wantHooks(t *testing.T, api *API, each APICall) {
	t.Helper()
	wanted := []APICall{}
	for _, name := range hooksOfAPush {
		each.Name = name
		wanted = append(wanted, each)
	}
	if calls := api.TakeCalls(); !slices.Equal(calls, wanted) {
		t.Errorf("GitLab was called %v, not %v", calls, wanted)
	}
}
