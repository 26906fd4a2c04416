// Package proxy runs the built program in a test and reads its log.
package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is relative to the folder of the tests, which is where `go test` runs them.
const program = "../../dist/cli.js"

// patience bounds every wait for the program; a loaded machine starts Node in a few seconds.
const patience = 30 * time.Second

// Proxy is the running program.
type Proxy struct {
	command *exec.Cmd
	// file is its configuration.
	file   string
	log    *log
	stderr bytes.Buffer
	// exited is closed when the process has ended and its log has been read.
	exited chan struct{}
}

// Start runs the program, with variables ("NAME=value") beside those of the test, and waits until it is ready. A test
// that does not get to Stop kills it.
func Start(t testing.TB, configuration Configuration, environment ...string) *Proxy {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the proxy is not built (npm run build): %v", err)
	}
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	write(t, file, configuration)
	proxy := &Proxy{
		command: exec.Command("node", program, "serve", "--config", file),
		file:    file,
		log:     newLog(),
		exited:  make(chan struct{}),
	}
	proxy.command.Env = append(os.Environ(), environment...)
	proxy.command.Stderr = &proxy.stderr
	stdout, err := proxy.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		proxy.log.collect(stdout)
		// The exit code is read from ProcessState; Wait's error says the same.
		_ = proxy.command.Wait()
		close(proxy.exited)
	}()
	t.Cleanup(func() { proxy.cleanUp(t) })
	proxy.Await(t, "ready", func(line Line) bool { return line.Event == "ready" })
	return proxy
}

// Await gives the first line that matches, waiting for it if need be. what names it where it does not come.
func (p *Proxy) Await(t testing.TB, what string, matches func(Line) bool) Line {
	t.Helper()
	return p.awaitAfter(t, 0, what, matches)
}

// awaitAfter is Await that skips the first lines.
func (p *Proxy) awaitAfter(t testing.TB, seen int, what string, matches func(Line) bool) Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		lines, more := p.log.snapshot()
		for _, line := range lines[seen:] {
			if matches(line) {
				return line
			}
		}
		seen = len(lines)
		if more == nil {
			t.Fatalf("the proxy ended without logging %s", what)
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("the proxy did not log %s in %s", what, patience)
		}
	}
}

// URL gives the address that the listener with this listen and forward is bound to.
func (p *Proxy) URL(t testing.TB, listener Listener) string {
	t.Helper()
	return p.Await(t, "the address of "+listener.Listen, func(line Line) bool {
		return line.Event == "listening" && line.Listener == listener.Listen && line.Forward == listener.Forward
	}).Listen
}

// MetricsURL is where the program's metrics are read.
func (p *Proxy) MetricsURL(t testing.TB) string {
	t.Helper()
	line := p.Await(t, "the address of the admin port", func(line Line) bool {
		return line.Event == "listening" && line.Listener == "prometheus_listen_addr"
	})
	return strings.TrimSuffix(line.Listen, "/") + "/metrics"
}

// Terminate sends SIGTERM.
func (p *Proxy) Terminate(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
}

// Reload sends SIGHUP.
func (p *Proxy) Reload(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGHUP)
}

// Reconfigure replaces the configuration, and returns when the new one is in effect.
func (p *Proxy) Reconfigure(t testing.TB, configuration Configuration) {
	t.Helper()
	lines, _ := p.log.snapshot()
	write(t, p.file, configuration)
	p.Reload(t)
	p.awaitAfter(t, len(lines), "the reload", func(line Line) bool { return line.Event == "reloaded" })
}

func (p *Proxy) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Exited waits until the program has ended by itself, asserts that its exit code is 0, and gives its whole log. That
// code says that no connection had to be cut: nothing was left over.
func (p *Proxy) Exited(t testing.TB) []Line {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("the proxy did not end in %s after SIGTERM", patience)
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the proxy's exit code is %d, not 0 (%s)", code, p.command.ProcessState)
	}
	if p.stderr.Len() > 0 {
		t.Errorf("the proxy wrote to stderr")
	}
	lines, _ := p.log.snapshot()
	for _, line := range lines {
		if line.Level == "invalid" || line.CloseReason == "internal_error" {
			t.Errorf("unexpected in the proxy's log: %s", line.Text)
		}
	}
	return lines
}

// Stop is Terminate and Exited.
func (p *Proxy) Stop(t testing.TB) []Line {
	t.Helper()
	p.Terminate(t)
	return p.Exited(t)
}

func write(t testing.TB, file string, configuration Configuration) {
	t.Helper()
	content, err := json.MarshalIndent(configuration, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cleanUp ends a program that the test has left running, and shows its output if the test has failed.
func (p *Proxy) cleanUp(t testing.TB) {
	select {
	case <-p.exited:
	default:
		if err := p.command.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-p.exited
	}
	if !t.Failed() {
		return
	}
	lines, _ := p.log.snapshot()
	for _, line := range lines {
		t.Log(line.Text)
	}
	t.Log(p.stderr.String())
}
