package gitaly

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gitaly-tls-proxy/interop/authority"
)

// TestGitaly runs its parts side by side: each has Gitalys and proxies of its own, and much of their time is spent on
// waiting for one of them to start.
func TestGitaly(t *testing.T) {
	c := &common{binaries: os.Getenv("GITALY_BINARIES"), ca: authority.New(t)}
	if c.binaries == "" {
		t.Fatal("GITALY_BINARIES is not set: run `npm run test:gitaly`")
	}
	// What GitLab's clients trust: those that are started, and the one in this process, which reads it once.
	t.Setenv("SSL_CERT_FILE", c.ca.CertificatePath)
	for name, part := range map[string]func(*testing.T){
		"git":        c.testWhole,
		"Praefect":   c.testPraefect,
		"policy":     c.testPolicy,
		"gate":       c.testGate,
		"check":      c.testCheck,
		"Prometheus": c.testPrometheus,
		"token":      c.testUpstreamToken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t)
		})
	}
}

// testWhole shares one setup of two Gitalys, and ends with what both sides have counted of all that went before.
func (c *common) testWhole(t *testing.T) {
	s := c.start(t)
	for name, address := range s.addresses() {
		t.Run("calls by "+name, func(t *testing.T) { testCalls(t, address, strings.ReplaceAll(name, " ", "-")) })
	}
	ways := s.addresses()
	ways["no proxy"] = "tcp://" + s.spare.Address
	for name, address := range ways {
		for _, sidechannel := range []bool{true, false} {
			title := fmt.Sprintf("git by %s, sidechannel %t", name, sidechannel)
			t.Run(title, func(t *testing.T) { testGit(t, s, address, sidechannel) })
		}
	}
	t.Run("git of 100 MiB by tls", func(t *testing.T) { testLarge(t, s) })
	t.Run("a bundle of 5000 refs, and a fetch of them all", func(t *testing.T) { testManyRefs(t, s) })
	t.Run("Workhorse's fetch, by PostUploadPackWithSidechannel", func(t *testing.T) { testWorkhorse(t, s) })
	t.Run("one Gitaly fetches from the other, both by tls", func(t *testing.T) { testReplicate(t, s) })
	t.Run("a clone during which", func(t *testing.T) { testInterruptions(t, s) })
	t.Run("the proxy has counted what Gitaly has", func(t *testing.T) { testCounters(t, s) })
}
