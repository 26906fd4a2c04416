package gitaly

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gitaly-tls-proxy/interop/proxy"

	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// auditLine is a line of the audit log, as far as it is read here.
type auditLine struct {
	Event        string `json:"event"`
	Method       string `json:"grpc.method"`
	Storage      string `json:"gitaly.storage"`
	RelativePath string `json:"gitaly.relative_path"`
	Code         string `json:"grpc.code"`
}

// A client without a token is served through upstream_token_path, and refused by the same Gitaly directly. The audit log has its calls.
func (c *common) testUpstreamToken(t *testing.T) {
	server := Start(t, c.binaries, "default", StartAPI(t))
	direct := "tcp://" + server.Address
	listener := proxy.Listener{
		Listen: "tcp://127.0.0.1:0", Forward: direct, UpstreamTokenPath: writeToken(t, Token),
	}
	audit := filepath.Join(t.TempDir(), "audit.log")
	running := proxy.Start(t, proxy.Configuration{Listeners: []proxy.Listener{listener}, AuditLogPath: audit})
	address := running.URL(t, listener)

	create := func(address, token, path string) error {
		repositories := gitalypb.NewRepositoryServiceClient(dial(t, address, token))
		_, err := repositories.CreateRepository(contextOf(t), &gitalypb.CreateRepositoryRequest{Repository: repository(path)})
		return err
	}
	if err := create(direct, "", "direct.git"); status.Code(err) != codes.Unauthenticated {
		t.Fatalf("without a token, directly: %v", err)
	}
	if err := create(address, "", "through.git"); err != nil {
		t.Fatalf("without a token, through the proxy: %v", err)
	}
	if err := create(address, Token, "own.git"); err != nil {
		t.Fatalf("with a token of its own, through the proxy: %v", err)
	}
	if err := create(address, "wrong", "wrong.git"); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("with a wrong token, through the proxy: %v", err)
	}
	refs := gitalypb.NewRefServiceClient(dial(t, address, ""))
	deleted := &gitalypb.DeleteRefsRequest{Repository: repository("through.git"), Refs: [][]byte{[]byte("refs/heads/none")}}
	if _, err := refs.DeleteRefs(contextOf(t), deleted); err != nil {
		t.Fatalf("DeleteRefs: %v", err)
	}
	running.Stop(t)

	wanted := []auditLine{
		{"call", "CreateRepository", "default", "through.git", "OK"},
		{"call", "CreateRepository", "default", "own.git", "OK"},
		{"call", "CreateRepository", "default", "wrong.git", "PermissionDenied"},
		{"call", "DeleteRefs", "default", "through.git", "OK"},
	}
	lines := auditedCalls(t, audit)
	if len(lines) != len(wanted) {
		t.Fatalf("audit lines: %v", lines)
	}
	for index, line := range lines {
		if line != wanted[index] {
			t.Errorf("audit line %d: %v, not %v", index, line, wanted[index])
		}
	}
	if output, err := exec.CommandContext(contextOf(t), "node", program, "audit", "verify", audit).CombinedOutput(); err != nil {
		t.Errorf("audit verify: %v: %s", err, output)
	}
}

// auditedCalls reads the lines about calls.
func auditedCalls(t *testing.T, path string) []auditLine {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var lines []auditLine
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		var line auditLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Event == "call" || line.Event == "refused" {
			lines = append(lines, line)
		}
	}
	return lines
}
