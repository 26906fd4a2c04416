package gitaly

import (
	"fmt"
	"strings"
	"testing"
)

// TestGitaly shares one setup, and ends with what both sides have counted of all that went before.
func TestGitaly(t *testing.T) {
	s := start(t)
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
	t.Run("Praefect in front of two Gitalys, each by tls", func(t *testing.T) { testPraefect(t, s) })
	t.Run("the proxy has counted what Gitaly has", func(t *testing.T) { testCounters(t, s) })
}
