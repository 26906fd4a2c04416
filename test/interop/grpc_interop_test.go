package interop_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"
	"gitaly-tls-proxy/interop/service"
)

// needsServerID is the case that grpc-go's server does not let pass, with or without a proxy: it expects a server's name,
// which that server never gives. It is run against grpc-js' server (grpc-js.interop.ts), which does.
const needsServerID = "pick_first_unary"

// TestGrpcInterop runs grpc-go's interop client against its server, in both protocols, directly and through the proxy. Each
// case is a process of its own, as a case that fails ends its process.
func TestGrpcInterop(t *testing.T) {
	t.Parallel()
	program := buildGrpcInterop(t)
	for _, protocol := range everyProtocol {
		t.Run("directly/"+string(protocol), func(t *testing.T) {
			t.Parallel()
			runInteropCases(t, program, "-protocol", string(protocol), "-address", "tcp://"+startInterop(t, program))
		})
		t.Run("through the proxy/"+string(protocol), func(t *testing.T) {
			t.Parallel()
			running, url, ca := startInFront(t, "tcp://"+startInterop(t, program))
			runInteropCases(t, program, "-protocol", string(protocol), "-address", url, "-ca", ca.CertificatePath, "-server-name", authority.Host)
			expectProtocol(t, running.Stop(t), protocol)
		})
	}
}

// expectProtocol asserts that the proxy knew its connections for what they are. They are not counted: a client whose
// deadline comes before its handshake is done leaves in it.
func expectProtocol(t *testing.T, lines []proxy.Line, protocol service.Protocol) {
	t.Helper()
	known := 0
	for _, line := range lines {
		switch {
		case line.CloseReason == "" || line.Protocol == "unknown":
		case line.Protocol == string(protocol):
			known++
		default:
			t.Errorf("a connection of another protocol: %s", line.Text)
		}
	}
	if known == 0 {
		t.Errorf("the log has no connection with protocol %s", protocol)
	}
}

func buildGrpcInterop(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "grpcinterop")
	if output, err := exec.Command("go", "build", "-o", program, "./grpcinterop").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// startInterop starts the server and gives its address. Each way to it has its own: orca_oob keeps others of its kind waiting.
func startInterop(t *testing.T, program string) string {
	t.Helper()
	server := exec.Command(program, "-serve", "127.0.0.1:0")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := server.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	var said struct{ Address string }
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Address
}

// runInteropCases runs all cases but needsServerID, and returns when all have ended.
func runInteropCases(t *testing.T, program string, arguments ...string) {
	t.Helper()
	output, err := exec.Command(program, "-list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := json.Unmarshal(output, &names); err != nil {
		t.Fatal(err)
	}
	t.Run("cases", func(t *testing.T) {
		for _, name := range names {
			if name == needsServerID {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				client := exec.CommandContext(patiently(t), program, append([]string{"-case", name}, arguments...)...)
				if output, err := client.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, output)
				}
			})
		}
	})
}
