package gitaly

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"

	gitalyauth "gitlab.com/gitlab-org/gitaly/v15/auth"
	"gitlab.com/gitlab-org/gitaly/v15/client"
	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc"
)

// common is what all tests share.
type common struct {
	binaries string
	ca       *authority.Authority
}

// setup is two Gitalys with a proxy in front.
type setup struct {
	*common
	api     *API
	servers []*Server
	proxy   *proxy.Proxy
	metrics string
	// tls, tcp and client are the addresses of the first Gitaly: by TLS, in plaintext, and by a proxy on the client's
	// side, which does TLS for clients that cannot present a certificate.
	tls, tcp, client string
	// other is the second Gitaly, by TLS.
	other string
	// spare is a third, which no proxy is in front of yet: what is compared with none, and what is killed.
	spare *Server
	// large and medium are local repositories: of more than 100 MiB, and of more than all buffers hold on the way.
	large, medium string
}

func (c *common) start(t *testing.T) *setup {
	t.Helper()
	s := &setup{common: c, api: StartAPI(t)}
	s.spare = Start(t, c.binaries, "default", s.api)
	s.large, s.medium = makeRepository(t, 110, 1024*1024), makeRepository(t, 40, 1024*1024)
	for _, storage := range []string{"default", "other"} {
		s.servers = append(s.servers, Start(t, c.binaries, storage, s.api))
	}
	pair := c.ca.Server(t)
	first := "tcp://" + s.servers[0].Address
	overTLS := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: first}
	inPlaintext := proxy.Listener{Listen: "tcp://127.0.0.1:0", Forward: first}
	toOther := proxy.Listener{Listen: "tls://127.0.0.1:" + freePort(t), Forward: "tcp://" + s.servers[1].Address}
	s.proxy = proxy.Start(t, proxy.Configuration{
		TLS:                     &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners:               []proxy.Listener{overTLS, inPlaintext, toOther},
		PrometheusListenAddress: "127.0.0.1:0",
	})
	s.tls, s.tcp, s.other = s.proxy.URL(t, overTLS), s.proxy.URL(t, inPlaintext), s.proxy.URL(t, toOther)
	s.metrics = s.proxy.MetricsURL(t)
	clientMode := proxy.Listener{
		Listen: "tcp://127.0.0.1:0", Forward: s.tls, UpstreamTLS: &proxy.UpstreamTLS{CAPath: c.ca.CertificatePath},
	}
	onClientSide := proxy.Start(t, proxy.Configuration{Listeners: []proxy.Listener{clientMode}})
	s.client = onClientSide.URL(t, clientMode)
	t.Cleanup(func() {
		onClientSide.Stop(t)
		s.proxy.Stop(t)
	})
	return s
}

// addresses are all ways to the first Gitaly.
func (s *setup) addresses() map[string]string {
	return map[string]string{"tls": s.tls, "tcp": s.tcp, "client mode": s.client}
}

// freePort is one of 127.0.0.1 that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func dial(t testing.TB, address, token string) *grpc.ClientConn {
	t.Helper()
	options := []grpc.DialOption{}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(gitalyauth.RPCCredentialsV2(token)))
	}
	conn, err := client.DialContext(context.Background(), address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func repository(path string) *gitalypb.Repository {
	return &gitalypb.Repository{StorageName: "default", RelativePath: path, GlRepository: "project-1"}
}

func contextOf(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// create makes an empty repository at a path.
func (c *common) create(t testing.TB, address, path string) {
	t.Helper()
	repositories := gitalypb.NewRepositoryServiceClient(dial(t, address, Token))
	request := &gitalypb.CreateRepositoryRequest{Repository: repository(path)}
	if _, err := repositories.CreateRepository(contextOf(t), request); err != nil {
		t.Fatal(err)
	}
}

// push makes a repository of a local one, as gitlab-shell does.
func (c *common) push(t testing.TB, address, path, source string) {
	t.Helper()
	c.create(t, address, path)
	environment := c.gitEnvironment(address, path, "receive-pack", false)
	git(t, source, environment, "push", "--quiet", remote, "main")
}

// clone gives the folder of a clone, which git has found to be whole.
func (c *common) clone(t testing.TB, address, path string, sidechannel bool) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "clone")
	fetch := c.gitEnvironment(address, path, "upload-pack", sidechannel)
	git(t, filepath.Dir(directory), fetch, "clone", "--quiet", "--branch=main", remote, directory)
	git(t, directory, nil, "fsck", "--full")
	return directory
}
