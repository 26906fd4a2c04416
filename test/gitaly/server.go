// Package gitaly runs real Gitalys behind the built proxy, and GitLab's own clients in front of it.
package gitaly

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitaly-tls-proxy/interop/authority"
)

// Token is what both ends know; Gitaly's clients make a token of their own from it for each call.
const Token = "a secret of Gitaly"

// Server is a running Gitaly.
type Server struct {
	// Address is its plaintext one, as host and port.
	Address string
	// Socket is the path of its unix socket.
	Socket string
	// Metrics is the URL of its own metrics.
	Metrics string
	// Storage is the name of its only storage.
	Storage string
	// Directory holds the repositories of that storage.
	Directory string

	program, configuration, pidFile string
	process                         *process
}

// GitLab is how a Gitaly reaches GitLab's internal API.
type GitLab struct {
	URL string
	// CAFile is what it trusts where URL is https://.
	CAFile string
	// Certificate is that of its [tls] section, which it presents where URL is https://. It may have none.
	Certificate authority.Pair
}

// Start runs a Gitaly with one storage. binaries is where `gitaly` and `gitaly-ssh` lie.
func Start(t testing.TB, binaries, storage string, api *API) *Server {
	t.Helper()
	return StartFor(t, binaries, storage, GitLab{URL: api.URL})
}

// StartFor runs a Gitaly that reaches GitLab in a way of its own.
func StartFor(t testing.TB, binaries, storage string, gitlab GitLab) *Server {
	t.Helper()
	base := socketDirectory(t)
	directory := func(name string) string {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := filepath.Join(base, "secret")
	if err := os.WriteFile(secret, []byte("a secret of the internal API"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := &Server{
		Address:   freeAddress(t),
		Storage:   storage,
		Directory: directory("repositories"),
		Socket:    filepath.Join(base, "gitaly.socket"),
		program:   filepath.Join(binaries, "gitaly"),
		pidFile:   filepath.Join(base, "gitaly.pid"),
	}
	metrics := freeAddress(t)
	server.Metrics = "http://" + metrics + "/metrics"
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf(`
bin_dir = %q
runtime_dir = %q
listen_addr = %q
socket_path = %q
prometheus_listen_addr = %q
[auth]
token = %q
[git]
bin_path = %q
ignore_gitconfig = true
[[storage]]
name = %q
path = %q
[logging]
format = "json"
level = "warn"
dir = %q
[gitlab-shell]
dir = %q
[hooks]
custom_hooks_dir = %q
[tls]
certificate_path = %q
key_path = %q
[gitlab]
url = %q
secret_file = %q
[gitlab.http-settings]
ca_file = %q
`, binaries, directory("run"), server.Address, server.Socket, metrics, Token, git, storage, server.Directory, directory("log"),
		directory("shell"), directory("hooks"),
		gitlab.Certificate.CertificatePath, gitlab.Certificate.KeyPath, gitlab.URL, secret, gitlab.CAFile)
	server.configuration = filepath.Join(base, "config.toml")
	if err := os.WriteFile(server.configuration, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Launch(t)
	return server
}

// socketDirectory is for what must be found by a short path, as that of a unix socket is: TempDir has the test's name in its own.
func socketDirectory(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "gitaly")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(directory); err != nil {
			t.Error(err)
		}
	})
	return directory
}

// Launch starts it, or starts it again.
func (s *Server) Launch(t testing.TB) {
	t.Helper()
	// A graceful restart is what gitaly-wrapper enables in this way.
	environment := []string{"GITALY_UPGRADES_ENABLED=true", "GITALY_PID_FILE=" + s.pidFile}
	s.process = launch(t, "gitaly "+s.Storage, s.Address, environment, s.program, s.configuration)
}

// Kill leaves it no time to say anything.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	pid := s.pid(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pid)
	// One that it had replaced ends by itself.
	s.process.awaitExit(t)
	// The kernel closes sockets of a dying process a little later; until then they take connections that nobody serves.
	await(t, "the port to be free", func() bool {
		conn, err := net.DialTimeout("tcp", s.Address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if err := os.Remove(s.pidFile); err != nil {
		t.Fatal(err)
	}
}

// Restart does what `gitlab-ctl hup gitaly` does: a new process takes new connections, and the old one ends with its
// last call. It returns when the new one serves.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	before := s.pid(t)
	s.process.signal(t, syscall.SIGHUP)
	await(t, "gitaly to be replaced", func() bool { return s.pid(t) != before && s.pid(t) != 0 })
	pid := s.pid(t)
	t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		awaitGone(t, pid)
	})
}

// awaitGone waits for a process that is nobody's child: what nobody waits for has no program any more, but still an id.
func awaitGone(t testing.TB, pid int) {
	t.Helper()
	await(t, "gitaly to end", func() bool {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil
	})
}

// pid is 0 as long as there is none.
func (s *Server) pid(t testing.TB) int {
	t.Helper()
	content, err := os.ReadFile(s.pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
