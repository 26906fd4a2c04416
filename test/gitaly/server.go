// Package gitaly runs real Gitalys behind the built proxy, and GitLab's own clients in front of it.
package gitaly

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Token is what both ends know; Gitaly's clients make a token of their own from it for each call.
const Token = "a secret of Gitaly"

// patience bounds every wait for a server that starts.
const patience = 60 * time.Second

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

	command *exec.Cmd
	exited  chan struct{}
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
		exited:    make(chan struct{}),
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
	file := filepath.Join(base, "config.toml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(base, "output.log"))
	if err != nil {
		t.Fatal(err)
	}
	server.command = exec.Command(filepath.Join(binaries, "gitaly"), file)
	server.command.Stdout, server.command.Stderr = output, output
	if err := server.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = server.command.Wait()
		close(server.exited)
	}()
	t.Cleanup(func() {
		server.end(t)
		said, _ := os.ReadFile(output.Name())
		if t.Failed() {
			t.Logf("gitaly %s said:\n%s", storage, said)
		}
	})
	server.awaitListening(t)
	return server
}

// end asks the Gitaly to go, and kills it if it does not.
func (s *Server) end(t testing.TB) {
	_ = s.command.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Error("gitaly did not end")
		_ = s.command.Process.Kill()
		<-s.exited
	}
}

func (s *Server) awaitListening(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.DialTimeout("tcp", s.Address, time.Second)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-s.exited:
			t.Fatal("gitaly ended while it started")
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("gitaly does not listen: %v", err)
		}
	}
}

// freeAddress is one of 127.0.0.1 that nobody listens on: Gitaly does not tell which port it took, were it to choose.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
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
