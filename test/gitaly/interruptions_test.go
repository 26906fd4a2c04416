package gitaly

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
)

// interruption is a proxy in front of the spare Gitaly, and two clones through it that have begun and are kept from
// going on: one by a sidechannel and one by gRPC.
type interruption struct {
	*setup
	ca            *authority.Authority
	pair          authority.Pair
	configuration proxy.Configuration
	proxy         *proxy.Proxy
	// address is what is cloned from: the proxy's, or that of a client's side in front of it.
	address string
	clones  []*stalledClone
}

type stalledClone struct {
	sidechannel bool
	directory   string
	valve       *Valve
	ended       chan error
}

const interrupted = "interrupted.git"

// testInterruptions does to proxy and Gitaly what operators do, and what must not happen, while clones run.
func testInterruptions(t *testing.T, s *setup) {
	s.push(t, "tcp://"+s.spare.Address, interrupted, s.medium)
	// A Gitaly that is started again lives as long as all of these.
	all := t

	t.Run("the certificate is renewed", func(t *testing.T) {
		in := interrupt(t, s, false)
		renewed := in.ca.Server(t)
		in.awaitReload(t)
		conn, err := tls.Dial("tcp", in.hostPort(), &tls.Config{RootCAs: in.ca.Pool(), NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		served := conn.ConnectionState().PeerCertificates[0].Raw
		_ = conn.Close()
		if string(served) != string(renewed.TLS.Certificate[0]) {
			t.Error("the old certificate is still served")
		}
		in.finish(t)
		in.cloneAnew(t, in.ca)
	})

	t.Run("the certificate's CA changes", func(t *testing.T) {
		in := interrupt(t, s, false)
		next := authority.New(t)
		pair := next.Server(t)
		replace(t, in.pair.CertificatePath, pair.CertificatePath)
		replace(t, in.pair.KeyPath, pair.KeyPath)
		in.awaitReload(t)
		in.finish(t)
		in.cloneAnew(t, next)
		const unknown = "x509: certificate signed by unknown authority"
		in.refused(t, in.ca, said{sidechannel: unknown, gRPC: unknown})
	})

	t.Run("the clients' CA changes", func(t *testing.T) {
		in := interrupt(t, s, true)
		replace(t, in.configuration.TLS.ClientCAPath, authority.New(t).CertificatePath)
		in.awaitReload(t)
		in.finish(t)
		const unauthenticated = `code = Unauthenticated desc = client certificate .*client_ca_path`
		in.refused(t, in.ca, said{sidechannel: unauthenticated, gRPC: unauthenticated})
	})

	t.Run("the proxy is told to reload", func(t *testing.T) {
		in := interrupt(t, s, false)
		in.proxy.Reload(t)
		in.awaitReload(t)
		in.finish(t)
		in.cloneAnew(t, in.ca)
	})

	t.Run("the proxy is drained, and another takes its port", func(t *testing.T) {
		in := interrupt(t, s, false)
		old := in.proxy
		old.Terminate(t)
		old.Await(t, "that it drains", func(line proxy.Line) bool { return line.Event == "draining" })
		in.proxy = proxy.Start(t, in.configuration)
		in.cloneAnew(t, in.ca)
		in.finish(t)
		old.Exited(t)
	})

	t.Run("Gitaly is restarted gracefully", func(t *testing.T) {
		in := interrupt(t, s, false)
		s.spare.Restart(t)
		in.cloneAnew(t, in.ca)
		in.finish(t)
		s.spare.Kill(t)
		s.spare.Launch(all)
	})

	t.Run("Gitaly is killed", func(t *testing.T) {
		in := interrupt(t, s, false)
		s.spare.Kill(t)
		const cut = `code = Unavailable desc = error reading from server: (EOF|.*connection reset by peer)`
		for _, clone := range in.clones {
			clone.valve.Open()
			err := <-clone.ended
			if err == nil {
				t.Fatalf("the clone (sidechannel %t) of a Gitaly that was killed went well", clone.sidechannel)
			}
			assertSaid(t, err, cut)
		}
		const down = `Gitaly at tcp://\S+ cannot be reached: connect ECONNREFUSED`
		in.refused(t, in.ca, said{sidechannel: down, gRPC: down})
		s.spare.Launch(all)
		in.cloneAnew(t, in.ca)
		in.proxy.Stop(t)
	})
}

// interrupt starts all of it. clientAuth: the proxy asks for client certificates, which one on the client's side has.
func interrupt(t *testing.T, s *setup, clientAuth bool) *interruption {
	t.Helper()
	in := &interruption{setup: s, ca: authority.New(t)}
	in.pair = in.ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:" + freePort(t), Forward: "tcp://" + s.spare.Address}
	in.configuration = proxy.Configuration{
		TLS:       &proxy.TLS{CertificatePath: in.pair.CertificatePath, KeyPath: in.pair.KeyPath},
		Listeners: []proxy.Listener{listener},
	}
	if clientAuth {
		in.configuration.TLS.ClientAuth = "require"
		// A file of its own: the client's side goes on to trust the server's.
		in.configuration.TLS.ClientCAPath = filepath.Join(t.TempDir(), "clients.pem")
		replace(t, in.configuration.TLS.ClientCAPath, in.ca.CertificatePath)
	}
	in.proxy = proxy.Start(t, in.configuration)
	in.address = listener.Listen
	if clientAuth {
		pair := in.ca.Client(t, "a-client.internal")
		clientMode := proxy.Listener{
			Listen: "tcp://127.0.0.1:0", Forward: in.address,
			UpstreamTLS: &proxy.UpstreamTLS{
				CAPath: in.ca.CertificatePath, CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath,
			},
		}
		in.address = proxy.Start(t, proxy.Configuration{Listeners: []proxy.Listener{clientMode}}).URL(t, clientMode)
	}
	for _, sidechannel := range []bool{true, false} {
		clone := &stalledClone{
			sidechannel: sidechannel,
			directory:   filepath.Join(t.TempDir(), "clone"),
			valve:       NewValve(t, in.hostPort()),
			ended:       make(chan error, 1),
		}
		scheme, _, _ := strings.Cut(in.address, "://")
		go func() {
			clone.ended <- in.clone(t, scheme+"://"+clone.valve.Address, clone.directory, in.ca, sidechannel)
		}()
		select {
		case <-clone.valve.Shut:
		case err := <-clone.ended:
			t.Fatalf("the clone ended before it was interrupted: %v", err)
		}
		in.clones = append(in.clones, clone)
	}
	return in
}

func (in *interruption) hostPort() string {
	_, address, _ := strings.Cut(in.address, "://")
	return address
}

func (in *interruption) awaitReload(t *testing.T) {
	t.Helper()
	in.proxy.Await(t, "a reload", func(line proxy.Line) bool { return line.Event == "reloaded" })
}

// clone is one by a client that trusts an authority. The error holds what git said.
func (in *interruption) clone(
	t *testing.T, address, directory string, trusted *authority.Authority, sidechannel bool,
) error {
	environment := append(
		in.gitEnvironment(address, interrupted, "upload-pack", sidechannel), "SSL_CERT_FILE="+trusted.CertificatePath)
	_, err := tryGit(t, filepath.Dir(directory), environment, "clone", "--quiet", "--branch=main", remote, directory)
	return err
}

// finish lets the clones go on and asserts that they end well, and with all there is.
func (in *interruption) finish(t *testing.T) {
	t.Helper()
	for _, clone := range in.clones {
		clone.valve.Open()
	}
	for _, clone := range in.clones {
		if err := <-clone.ended; err != nil {
			t.Errorf("the clone (sidechannel %t) was cut: %v", clone.sidechannel, err)
			continue
		}
		in.whole(t, clone.directory)
	}
}

func (in *interruption) whole(t *testing.T, clone string) {
	t.Helper()
	if got, wanted := headOf(t, clone), headOf(t, in.medium); got != wanted {
		t.Errorf("the clone is at %s, not at %s", got, wanted)
	}
	git(t, clone, nil, "fsck", "--connectivity-only")
}

// cloneAnew asserts that a client that comes now is served.
func (in *interruption) cloneAnew(t *testing.T, trusted *authority.Authority) {
	t.Helper()
	clone := filepath.Join(t.TempDir(), "clone")
	if err := in.clone(t, in.address, clone, trusted, true); err != nil {
		t.Fatal(err)
	}
	in.whole(t, clone)
}

// said is what git must say of a failure, as regular expressions, by how the client calls Gitaly.
type said struct{ sidechannel, gRPC string }

// refused asserts that a client that comes now is not served, whichever protocol it speaks, and that git says why.
func (in *interruption) refused(t *testing.T, trusted *authority.Authority, words said) {
	t.Helper()
	for sidechannel, wanted := range map[bool]string{true: words.sidechannel, false: words.gRPC} {
		err := in.clone(t, in.address, filepath.Join(t.TempDir(), "refused"), trusted, sidechannel)
		if err == nil {
			t.Fatalf("a clone (sidechannel %t) that should be refused went well", sidechannel)
		}
		assertSaid(t, err, wanted)
	}
}

func assertSaid(t *testing.T, err error, wanted string) {
	t.Helper()
	if !regexp.MustCompile(wanted).MatchString(err.Error()) {
		t.Errorf("git does not say %q: %v", wanted, err)
	}
}

// replace puts a copy of a file in the place of another, at once.
func replace(t *testing.T, path, by string) {
	t.Helper()
	content, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
