// Package gitaly runs real Gitalys behind the built proxy, and GitLab's own clients in front of it.
package gitaly

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Token is what both ends know; Gitaly's clients make a token of their own from it for each call.
const Token = "a secret of Gitaly"

// Server is a running Gitaly.
type Server struct {
	// Address is its plaintext one, as host and port.
	Address string
	// Metrics is the URL of its own metrics.
	Metrics string
	// Storage is the name of its only storage.
	Storage string
	// Directory holds the repositories of that storage.
	Directory string

	program, configuration, pidFile string
	process                         *process
}

// Start runs a Gitaly with one storage. binaries is where `gitaly` and `gitaly-ssh` lie.
func Start(t testing.TB, binaries, storage string, api *API) *Server {
	t.Helper()
	base := t.TempDir()
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
[gitlab]
url = %q
secret_file = %q
`, binaries, directory("run"), server.Address, metrics, Token, git, storage, server.Directory, directory("log"),
		directory("shell"), directory("hooks"), api.URL, secret)
	server.configuration = filepath.Join(base, "config.toml")
	if err := os.WriteFile(server.configuration, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Launch(t)
	return server
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

// API stands in for GitLab's internal API, which the hooks of a push call.
type API struct {
	URL string
	// Allowed counts the pushes that asked for leave.
	Allowed atomic.Int64
}

// StartAPI answers that everything is allowed.
func StartAPI(t testing.TB) *API {
	t.Helper()
	api := &API{}
	answer := func(content any) http.HandlerFunc {
		return func(writer http.ResponseWriter, _ *http.Request) {
			writer.Header().Set("content-type", "application/json")
			_ = json.NewEncoder(writer).Encode(content)
		}
	}
	const prefix = "/api/v4/internal/"
	mux := http.NewServeMux()
	mux.HandleFunc(prefix+"check", answer(map[string]any{
		"api_version": "v4", "gitlab_version": "15.11.13", "gitlab_rev": "0", "redis": true,
	}))
	mux.HandleFunc(prefix+"allowed", func(writer http.ResponseWriter, request *http.Request) {
		api.Allowed.Add(1)
		answer(map[string]any{"status": true})(writer, request)
	})
	mux.HandleFunc(prefix+"pre_receive", answer(map[string]any{"reference_counter_increased": true}))
	mux.HandleFunc(prefix+"post_receive", answer(map[string]any{
		"reference_counter_decreased": true, "messages": []any{},
	}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	api.URL = server.URL
	return api
}
