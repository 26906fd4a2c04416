package gitaly

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The built-in table has each RPC of this Gitaly as `rpcs` reads it from the descriptors that protoc has made of its proto files.
func TestRpcsReadsTheDescriptorsOfGitaly(t *testing.T) {
	set := &descriptorpb.FileDescriptorSet{}
	// It registers the files.
	_ = gitalypb.File_lint_proto
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() == "gitaly" {
			set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
		}
		return true
	})
	bytes, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gitaly.pb")
	if err := os.WriteFile(path, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(contextOf(t), "node", program, "rpcs", "--from", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	table := string(output)
	for _, row := range []string{
		"gitaly.CommitService/FindCommit\tunary\taccessor\t1",
		"gitaly.SSHService/SSHReceivePack\tbidi_stream\tmutator\t1",
		"gitaly.RepositoryService/OptimizeRepository\tunary\tmaintenance\t1",
		"gitaly.ObjectPoolService/DeleteObjectPool\tunary\tmutator\t1.1",
		"gitaly.OperationService/UserCommitFiles\tclient_stream\tmutator\t1.1",
		"gitaly.NamespaceService/RemoveNamespace\tunary\tmutator\t\t1",
		"gitaly.ServerService/ServerInfo\tunary\tnone",
	} {
		if !strings.Contains(table, "\n"+row+"\n") {
			t.Errorf("missing: %q", row)
		}
	}
	known, err := os.ReadFile("../../src/policy/known-rpcs.ts")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`(?m)^gitaly\.\w+/(\w+)\t(\w+)\t(\w+)`).FindAllStringSubmatch(table, -1) {
		row := "['" + match[1] + "', '" + match[2] + "', '" + match[3] + "']"
		// Praefect alone answers it in this version, and its operation was given later.
		if match[1] == "RemoveAll" {
			row = "['RemoveAll', 'unary', 'mutator']"
		}
		if !strings.Contains(string(known), row) {
			t.Errorf("the built-in table has no %s", row)
		}
	}
}
