package gitaly

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server.
const patience = 60 * time.Second

// process is a program that runs beside a test, until the test ends it or is over. What it writes is shown if the test
// has failed.
type process struct {
	name    string
	command *exec.Cmd
	exited  chan struct{}
}

// launch starts a program that listens on address, and waits until it does. environment ("NAME=value") is added to
// that of the test.
func launch(t testing.TB, name, address string, environment []string, program string, arguments ...string) *process {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	p := &process{name: name, command: exec.Command(program, arguments...), exited: make(chan struct{})}
	p.command.Env = append(os.Environ(), environment...)
	p.command.Stdout, p.command.Stderr = output, output
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.end(t, syscall.SIGTERM)
		if said, _ := os.ReadFile(output.Name()); t.Failed() {
			t.Logf("%s said:\n%s", name, said)
		}
	})
	p.awaitListening(t, address)
	return p
}

// signal is for one that still runs.
func (p *process) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// end sends a signal and waits until the process is gone. It may have ended already.
func (p *process) end(t testing.TB, signal os.Signal) {
	t.Helper()
	_ = p.command.Process.Signal(signal)
	p.awaitExit(t)
}

// awaitExit waits until the process is gone, and kills it if it takes too long.
func (p *process) awaitExit(t testing.TB) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Errorf("%s did not end", p.name)
		_ = p.command.Process.Kill()
		<-p.exited
	}
}

func (p *process) awaitListening(t testing.TB, address string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to listen on %s", p.name, address), func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case <-p.exited:
			t.Fatalf("%s ended while it started", p.name)
		default:
		}
		return false
	})
}

// await looks again and again at what tells of itself in no other way.
func await(t testing.TB, what string, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !come(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}

// given are the ports that freeAddress has given.
var given sync.Map

// freeAddress is one of 127.0.0.1 that nobody listens on: Gitaly does not tell which port it took, were it to choose. It
// is below those that the kernel gives to whoever leaves it to choose one: none of them takes it before Gitaly does.
func freeAddress(t testing.TB) string {
	t.Helper()
	const first, behind = 16384, 32768
	for range 1000 {
		port := first + rand.IntN(behind-first)
		if _, known := given.LoadOrStore(port, true); known {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }()
		return listener.Addr().String()
	}
	t.Fatalf("no port of %d to %d is free", first, behind-1)
	return ""
}
