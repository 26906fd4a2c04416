package interop_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitaly-tls-proxy/interop/proxy"
)

// TestSystemdIsToldByTheRealSystemdNotify receives what systemd would, from the program that comes with it.
func TestSystemdIsToldByTheRealSystemdNotify(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-notify"); err != nil {
		t.Skip("systemd-notify is not installed: npm test has a stand-in")
	}
	gitaly := startService(t, "tcp://127.0.0.1:0", nil)
	manager := startManager(t)
	running := proxy.Start(t, proxy.Configuration{
		Listeners: []proxy.Listener{{Listen: "tcp://127.0.0.1:0", Forward: gitaly.URL}},
	}, "NOTIFY_SOCKET="+manager.path, "WATCHDOG_USEC=200000")

	if ready := manager.await(t, "READY"); ready["STATUS"] != "serving: 1 listeners, 0 connections" {
		t.Errorf("told at the start: %v", ready)
	}
	manager.await(t, "WATCHDOG")
	running.Reload(t)
	if usec, err := strconv.ParseUint(manager.await(t, "RELOADING")["MONOTONIC_USEC"], 10, 64); err != nil || usec == 0 {
		t.Errorf("a reload without the time: %d, %v", usec, err)
	}
	manager.await(t, "READY")
	running.Terminate(t)
	if stopping := manager.await(t, "STOPPING"); !strings.HasPrefix(stopping["STATUS"], "draining") {
		t.Errorf("told at the end: %v", stopping)
	}
	running.Exited(t)
}

// manager is systemd's end of NOTIFY_SOCKET.
type manager struct {
	path string
	// told has each message with assignments, by name.
	told chan map[string]string
}

func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify"), told: make(chan map[string]string, 1000)}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		text, control := make([]byte, 4096), make([]byte, 4096)
		for {
			length, controlLength, _, _, err := socket.ReadMsgUnix(text, control)
			if err != nil {
				return
			}
			closeReceived(control[:controlLength])
			message := map[string]string{}
			for _, line := range strings.Split(string(text[:length]), "\n") {
				if name, value, found := strings.Cut(line, "="); found {
					message[name] = value
				}
			}
			m.told <- message
		}
	}()
	return m
}

// await gives the next message that assigns name. What comes before is passed over.
func (m *manager) await(t *testing.T, name string) map[string]string {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case message := <-m.told:
			if message[name] != "" {
				return message
			}
		case <-deadline:
			t.Fatalf("no %s in %s", name, patience)
		}
	}
}

// closeReceived closes the descriptors of a message: for BARRIER=1 that is systemd's answer (sd_notify(3)).
func closeReceived(control []byte) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for _, message := range messages {
		descriptors, err := syscall.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, descriptor := range descriptors {
			_ = syscall.Close(descriptor)
		}
	}
}
