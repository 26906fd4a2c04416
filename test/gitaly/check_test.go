package gitaly

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gitaly-tls-proxy/interop/proxy"
)

// program is the built one, which `check` is a command of.
const program = "../../dist/cli.js"

// checked is what `check --json` says of one address.
type checked struct {
	Passed  bool `json:"passed"`
	Targets []struct {
		Address   string `json:"address"`
		Endpoints []struct {
			Steps []checkedStep `json:"steps"`
		} `json:"endpoints"`
	} `json:"targets"`
}

type checkedStep struct {
	Name     string `json:"name"`
	Result   string `json:"result"`
	Detail   string `json:"detail"`
	Version  string `json:"server_version"`
	Token    string `json:"token"`
	Storages []struct {
		Name      string `json:"name"`
		Readable  bool   `json:"readable"`
		Writeable bool   `json:"writeable"`
	} `json:"storages"`
}

// runCheck gives the report and the exit code.
func runCheck(t *testing.T, arguments ...string) (checked, int) {
	t.Helper()
	command := exec.CommandContext(contextOf(t), "node", append([]string{program, "check", "--json"}, arguments...)...)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
		t.Fatal(err)
	}
	var report checked
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return report, command.ProcessState.ExitCode()
}

// step is that of the first address.
func (c checked) step(t *testing.T, name string) checkedStep {
	t.Helper()
	for _, step := range c.Targets[0].Endpoints[0].Steps {
		if step.Name == name {
			return step
		}
	}
	t.Fatalf("no step %s in %+v", name, c)
	return checkedStep{}
}

// writeToken gives the path of a file that holds it.
func writeToken(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testCheck lets `check` be a client of a real Gitaly, by itself and behind the proxy.
func (c *common) testCheck(t *testing.T) {
	server := Start(t, c.binaries, "default", StartAPI(t))
	direct := "tcp://" + server.Address
	pair := c.ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: direct}
	front := proxy.Start(t, proxy.Configuration{
		TLS:       &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners: []proxy.Listener{listener},
	})
	t.Cleanup(func() { front.Stop(t) })
	trust := []string{"--ca", c.ca.CertificatePath}

	for name, address := range map[string]string{"behind the proxy": front.URL(t, listener), "directly": direct} {
		t.Run(name+" all steps pass, with its version and storages", func(t *testing.T) {
			report, code := runCheck(t, append(trust, address, "--token-file", writeToken(t, Token))...)
			for _, step := range report.Targets[0].Endpoints[0].Steps {
				if step.Result != "passed" {
					t.Errorf("%s: %s: %s", step.Name, step.Result, step.Detail)
				}
			}
			if code != 0 || !report.Passed {
				t.Errorf("exit code %d, passed: %t", code, report.Passed)
			}
			info := report.step(t, "server_info")
			if info.Version != "15.11.13" {
				t.Errorf("version %q", info.Version)
			}
			if len(info.Storages) != 1 || info.Storages[0].Name != "default" || !info.Storages[0].Readable || !info.Storages[0].Writeable {
				t.Errorf("storages %+v", info.Storages)
			}
		})
	}
	t.Run("a wrong token is refused, at whatever time", func(t *testing.T) {
		report, code := runCheck(t, direct, "--token-file", writeToken(t, "another"))
		info := report.step(t, "server_info")
		if code != 1 || info.Result != "failed" || info.Token != "wrong" || !strings.Contains(info.Detail, "permission denied") {
			t.Errorf("exit code %d, %+v", code, info)
		}
	})
	t.Run("without a token health passes, and the step that needs it is Skipped", func(t *testing.T) {
		report, code := runCheck(t, direct)
		if health := report.step(t, "health_backchannel"); code != 0 || health.Result != "passed" {
			t.Errorf("exit code %d, %+v", code, health)
		}
		if info := report.step(t, "server_info"); info.Result != "skipped" {
			t.Errorf("%+v", info)
		}
	})
}
