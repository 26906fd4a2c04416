package gitaly

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	gitalyauth "gitlab.com/gitlab-org/gitaly/v15/auth"
	"gitlab.com/gitlab-org/gitaly/v15/client"
	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// testGit pushes, clones and fetches as gitlab-shell does, and compares with what was pushed.
func testGit(t *testing.T, s *setup, address string, sidechannel bool) {
	path := strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' || r == '/' || r == '=' {
			return '-'
		}
		return r
	}, t.Name()) + ".git"
	s.create(t, address, path)
	// More than 100 objects in a push are kept as the pack that they came in.
	source := makeRepository(t, 120, 64*1024)
	push := s.gitEnvironment(address, path, "receive-pack", false)
	allowed := s.api.Allowed.Load()
	git(t, source, push, "push", "--quiet", remote, "main")
	if s.api.Allowed.Load() == allowed {
		t.Error("the push asked nobody for leave: the hooks did not run")
	}
	fetch := s.gitEnvironment(address, path, "upload-pack", sidechannel)
	head := headOf(t, source)
	directory := t.TempDir()
	same := func(clone string) {
		t.Helper()
		if got := headOf(t, clone); got != head {
			t.Errorf("%s is at %s, not at %s", clone, got, head)
		}
		git(t, clone, fetch, "fsck", "--full")
	}
	for name, options := range map[string][]string{
		"clone":   nil,
		"shallow": {"--depth=1"},
		"partial": {"--filter=blob:none", "--no-checkout"},
	} {
		git(t, directory, fetch, append([]string{"clone", "--quiet", "--branch=main", remote, name}, options...)...)
		same(filepath.Join(directory, name))
	}
	commit(t, source, "one more", []byte("more"))
	git(t, source, push, "push", "--quiet", remote, "main")
	head = headOf(t, source)
	clone := filepath.Join(directory, "clone")
	git(t, clone, fetch, "pull", "--quiet", "--ff-only")
	same(clone)
}

// testLarge pushes and clones what takes a while: in each way the same comes back as with no proxy in between.
func testLarge(t *testing.T, s *setup) {
	const repository = "large.git"
	content := func(t *testing.T, address string, sidechannel bool) string {
		clone := s.clone(t, address, repository, sidechannel)
		return headOf(t, clone) + "\n" + git(t, clone, nil, "cat-file", "--batch-all-objects", "--batch-check")
	}
	noProxy := "tcp://" + s.spare.Address
	s.push(t, noProxy, repository, s.large)
	direct := content(t, noProxy, true)
	if objects := strings.Count(direct, "\n"); objects < 330 {
		t.Fatalf("only %d objects came", objects)
	}
	s.push(t, s.tls, repository, s.large)
	for name, sidechannel := range map[string]bool{"by a sidechannel": true, "by gRPC": false} {
		t.Run(name, func(t *testing.T) {
			if through := content(t, s.tls, sidechannel); through != direct {
				t.Errorf("through the proxy came %q, directly %q", through, direct)
			}
		})
	}
}

// testManyRefs makes a repository from a bundle of many refs, and fetches each of them.
func testManyRefs(t *testing.T, s *setup) {
	source := makeRepository(t, 1, 100)
	head := headOf(t, source)
	var packed strings.Builder
	packed.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for index := range 5000 {
		fmt.Fprintf(&packed, "%s refs/heads/topic/%05d\n", head, index)
	}
	if err := os.WriteFile(filepath.Join(source, ".git", "packed-refs"), []byte(packed.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	const list = "--format=%(objectname) %(refname)"
	wanted := git(t, source, nil, "for-each-ref", list)
	if count := strings.Count(wanted, "\n"); count != 5001 {
		t.Fatalf("%d refs were made", count)
	}
	file := filepath.Join(t.TempDir(), "bundle")
	git(t, source, nil, "bundle", "create", "--quiet", file, "--all")
	bundle, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := gitalypb.NewRepositoryServiceClient(dial(t, s.tls, Token)).CreateRepositoryFromBundle(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	request := &gitalypb.CreateRepositoryFromBundleRequest{Repository: repository("refs.git"), Data: bundle}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	fetch := s.gitEnvironment(s.tls, "refs.git", "upload-pack", true)
	git(t, directory, fetch, "clone", "--quiet", "--mirror", remote, "clone")
	if got := git(t, filepath.Join(directory, "clone"), nil, "for-each-ref", list); got != wanted {
		t.Errorf("%d refs came, not the %d that were sent", strings.Count(got, "\n"), strings.Count(wanted, "\n"))
	}
}

// testWorkhorse asks for a pack as Workhorse does for a fetch by HTTP.
func testWorkhorse(t *testing.T, s *setup) {
	source, repo := makeRepository(t, 120, 64*1024), "workhorse.git"
	s.push(t, s.tls, repo, source)
	fetchAsWorkhorse(t, s.tls, repo, headOf(t, source))
}

// fetchAsWorkhorse fetches a commit, and asserts that the pack is whole and holds it.
func fetchAsWorkhorse(t *testing.T, address, repo, head string) {
	t.Helper()
	registry := client.NewSidechannelRegistry(logrus.NewEntry(logrus.StandardLogger()))
	credentials := grpc.WithPerRPCCredentials(gitalyauth.RPCCredentialsV2(Token))
	conn, err := client.DialSidechannel(contextOf(t), address, registry, []grpc.DialOption{credentials})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var answer bytes.Buffer
	ctx, waiter := registry.Register(contextOf(t), func(channel client.SidechannelConn) error {
		if _, err := fmt.Fprintf(channel, "0032want %s\n00000009done\n", head); err != nil {
			return err
		}
		if err := channel.CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(&answer, channel)
		return err
	})
	request := &gitalypb.PostUploadPackWithSidechannelRequest{Repository: repository(repo)}
	_, err = gitalypb.NewSmartHTTPServiceClient(conn).PostUploadPackWithSidechannel(ctx, request)
	if err := errors.Join(err, waiter.Close()); err != nil {
		t.Fatal(err)
	}
	pack, found := bytes.CutPrefix(answer.Bytes(), []byte("0008NAK\n"))
	if !found {
		t.Fatalf("the answer begins with %q", answer.Bytes()[:min(20, answer.Len())])
	}
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "a.pack"), pack, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, directory, nil, "index-pack", "--strict", "a.pack")
	if listed := git(t, directory, nil, "verify-pack", "-v", "a.idx"); !strings.Contains(listed, head) {
		t.Errorf("the pack does not hold %s", head)
	}
}

// testReplicate makes the second Gitaly copy a repository of the first, which it dials itself: through the proxy.
func testReplicate(t *testing.T, s *setup) {
	source, repo := makeRepository(t, 120, 64*1024), "replicated.git"
	s.push(t, s.tls, repo, source)
	servers, err := json.Marshal(map[string]any{
		"default": map[string]string{"address": s.tls, "token": Token},
		"other":   map[string]string{"address": s.other, "token": Token},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(contextOf(t), "gitaly-servers", base64.StdEncoding.EncodeToString(servers))
	copied := repository(repo)
	copied.StorageName = "other"
	repositories := gitalypb.NewRepositoryServiceClient(dial(t, s.other, Token))
	request := &gitalypb.ReplicateRepositoryRequest{Repository: copied, Source: repository(repo)}
	if _, err := repositories.ReplicateRepository(ctx, request); err != nil {
		t.Fatal(err)
	}
	head := git(t, source, nil, "rev-parse", "main")
	if got := git(t, filepath.Join(s.servers[1].Directory, repo), nil, "rev-parse", "main"); got != head {
		t.Errorf("the copy is at %s, not at %s", got, head)
	}
}
