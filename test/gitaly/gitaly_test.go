package gitaly

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"

	"github.com/sirupsen/logrus"
	gitalyauth "gitlab.com/gitlab-org/gitaly/v15/auth"
	"gitlab.com/gitlab-org/gitaly/v15/client"
	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// setup is two Gitalys with a proxy in front.
type setup struct {
	binaries string
	api      *API
	servers  []*Server
	proxy    *proxy.Proxy
	metrics  string
	// tls, tcp and client are the addresses of the first Gitaly: by TLS, in plaintext, and by a proxy on the client's
	// side, which does TLS for clients that cannot present a certificate.
	tls, tcp, client string
	// other is the second Gitaly, by TLS.
	other string
}

func start(t *testing.T) *setup {
	t.Helper()
	binaries := os.Getenv("GITALY_BINARIES")
	if binaries == "" {
		t.Fatal("GITALY_BINARIES is not set: run `npm run test:gitaly`")
	}
	ca := authority.New(t)
	// What GitLab's clients trust.
	t.Setenv("SSL_CERT_FILE", ca.CertificatePath)
	s := &setup{binaries: binaries, api: StartAPI(t)}
	for _, storage := range []string{"default", "other"} {
		s.servers = append(s.servers, Start(t, binaries, storage, s.api))
	}
	pair := ca.Server(t)
	first := "tcp://" + s.servers[0].Address
	overTLS := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: first}
	inPlaintext := proxy.Listener{Listen: "tcp://127.0.0.1:0", Forward: first}
	toOther := proxy.Listener{Listen: "tls://127.0.0.1:" + freePort(t), Forward: "tcp://" + s.servers[1].Address}
	s.proxy = proxy.Start(t, proxy.Configuration{
		TLS:                     &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners:               []proxy.Listener{overTLS, inPlaintext, toOther},
		PrometheusListenAddress: "127.0.0.1:0",
	})
	s.tls, s.tcp, s.other = s.proxy.URL(t, overTLS), s.proxy.URL(t, inPlaintext), s.proxy.URL(t, toOther)
	s.metrics = s.proxy.MetricsURL(t)
	clientMode := proxy.Listener{
		Listen: "tcp://127.0.0.1:0", Forward: s.tls, UpstreamTLS: &proxy.UpstreamTLS{CAPath: ca.CertificatePath},
	}
	onClientSide := proxy.Start(t, proxy.Configuration{Listeners: []proxy.Listener{clientMode}})
	s.client = onClientSide.URL(t, clientMode)
	t.Cleanup(func() {
		onClientSide.Stop(t)
		s.proxy.Stop(t)
	})
	return s
}

// addresses are all ways to the first Gitaly.
func (s *setup) addresses() map[string]string {
	return map[string]string{"tls": s.tls, "tcp": s.tcp, "client mode": s.client}
}

// freePort is one of 127.0.0.1 that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func dial(t testing.TB, address, token string) *grpc.ClientConn {
	t.Helper()
	options := []grpc.DialOption{}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(gitalyauth.RPCCredentialsV2(token)))
	}
	conn, err := client.DialContext(context.Background(), address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func repository(path string) *gitalypb.Repository {
	return &gitalypb.Repository{StorageName: "default", RelativePath: path, GlRepository: "project-1"}
}

func contextOf(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestGitaly shares one setup, and ends with what both sides have counted of all that went before.
func TestGitaly(t *testing.T) {
	s := start(t)
	for name, address := range s.addresses() {
		t.Run("calls by "+name, func(t *testing.T) { testCalls(t, address, strings.ReplaceAll(name, " ", "-")) })
	}
	for name, address := range s.addresses() {
		for _, sidechannel := range []bool{true, false} {
			title := fmt.Sprintf("git by %s, sidechannel %t", name, sidechannel)
			t.Run(title, func(t *testing.T) { testGit(t, s, address, sidechannel) })
		}
	}
	t.Run("git of 100 MiB by tls", func(t *testing.T) { testLarge(t, s) })
	t.Run("a bundle of 5000 refs, and a fetch of them all", func(t *testing.T) { testManyRefs(t, s) })
	t.Run("Workhorse's fetch, by PostUploadPackWithSidechannel", func(t *testing.T) { testWorkhorse(t, s) })
	t.Run("one Gitaly fetches from the other, both by tls", func(t *testing.T) { testReplicate(t, s) })
	t.Run("the proxy has counted what Gitaly has", func(t *testing.T) { testCounters(t, s) })
}

func testCalls(t *testing.T, address, name string) {
	ctx := contextOf(t)
	conn := dial(t, address, Token)
	repositories := gitalypb.NewRepositoryServiceClient(conn)
	repo := repository(name + ".git")

	t.Run("health, with a valid token and without", func(t *testing.T) {
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("health: %v, %v", answer, err)
		}
		stranger := healthpb.NewHealthClient(dial(t, address, ""))
		if _, err := stranger.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Fatalf("health without a token: %v", err)
		}
	})
	t.Run("ServerInfo, and a wrong token refused", func(t *testing.T) {
		info, err := gitalypb.NewServerServiceClient(conn).ServerInfo(ctx, &gitalypb.ServerInfoRequest{})
		if err != nil || len(info.GetStorageStatuses()) != 1 {
			t.Fatalf("ServerInfo: %v, %v", info, err)
		}
		for token, wanted := range map[string]codes.Code{"": codes.Unauthenticated, "wrong": codes.PermissionDenied} {
			stranger := gitalypb.NewServerServiceClient(dial(t, address, token))
			if _, err := stranger.ServerInfo(ctx, &gitalypb.ServerInfoRequest{}); status.Code(err) != wanted {
				t.Errorf("ServerInfo with the token %q: %v, not %v", token, err, wanted)
			}
		}
	})
	t.Run("a client stream makes a repository from a bundle, a server stream gives it back", func(t *testing.T) {
		bundle := makeBundle(t)
		stream, err := repositories.CreateRepositoryFromBundle(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&gitalypb.CreateRepositoryFromBundleRequest{Repository: repo}); err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(bundle, 100_000) {
			if err := stream.Send(&gitalypb.CreateRepositoryFromBundleRequest{Data: part}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stream.CloseAndRecv(); err != nil {
			t.Fatal(err)
		}
		received, err := repositories.CreateBundle(ctx, &gitalypb.CreateBundleRequest{Repository: repo})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "bundle")
		if err := os.WriteFile(file, receiveAll(t, received.Recv), 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, t.TempDir(), nil, "clone", "--quiet", file, "clone")
	})
	t.Run("CreateRepository, and again", func(t *testing.T) {
		request := &gitalypb.CreateRepositoryRequest{Repository: repository(name + "-empty.git")}
		if _, err := repositories.CreateRepository(ctx, request); err != nil {
			t.Fatal(err)
		}
		if _, err := repositories.CreateRepository(ctx, request); status.Code(err) != codes.AlreadyExists {
			t.Fatalf("a second time: %v", err)
		}
	})
	t.Run("a repository that is not there", func(t *testing.T) {
		_, err := repositories.RepositorySize(ctx, &gitalypb.RepositorySizeRequest{Repository: repository("none.git")})
		if status.Code(err) != codes.NotFound {
			t.Fatalf("RepositorySize: %v", err)
		}
	})
}

func receiveAll(t testing.TB, receive func() (*gitalypb.CreateBundleResponse, error)) []byte {
	t.Helper()
	var content bytes.Buffer
	for {
		part, err := receive()
		if errors.Is(err, io.EOF) {
			return content.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		content.Write(part.GetData())
	}
}

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
	git(t, source, push, "push", "--quiet", "ssh://git@gitaly/x.git", "main")
	if s.api.Allowed.Load() == allowed {
		t.Error("the push asked nobody for leave: the hooks did not run")
	}
	fetch := s.gitEnvironment(address, path, "upload-pack", sidechannel)
	head := strings.TrimSpace(git(t, source, nil, "rev-parse", "HEAD"))
	directory := t.TempDir()
	same := func(clone string) {
		t.Helper()
		if got := strings.TrimSpace(git(t, clone, fetch, "rev-parse", "HEAD")); got != head {
			t.Errorf("%s is at %s, not at %s", clone, got, head)
		}
		git(t, clone, fetch, "fsck", "--full")
	}
	for name, options := range map[string][]string{
		"clone":   nil,
		"shallow": {"--depth=1"},
		"partial": {"--filter=blob:none", "--no-checkout"},
	} {
		git(t, directory, fetch, append([]string{"clone", "--quiet", "--branch=main", "ssh://git@gitaly/x.git", name}, options...)...)
		same(filepath.Join(directory, name))
	}
	commit(t, source, "one more", []byte("more"))
	git(t, source, push, "push", "--quiet", "ssh://git@gitaly/x.git", "main")
	head = strings.TrimSpace(git(t, source, nil, "rev-parse", "HEAD"))
	clone := filepath.Join(directory, "clone")
	git(t, clone, fetch, "pull", "--quiet", "--ff-only")
	same(clone)
}

// testLarge pushes and clones what takes a while.
func testLarge(t *testing.T, s *setup) {
	source := makeRepository(t, 110, 1024*1024)
	repo := s.create(t, s.tls, "large.git")
	git(t, source, s.gitEnvironment(s.tls, repo, "receive-pack", false), "push", "--quiet", "ssh://git@gitaly/x.git", "main")
	head := strings.TrimSpace(git(t, source, nil, "rev-parse", "HEAD"))
	for name, sidechannel := range map[string]bool{"by a sidechannel": true, "by gRPC": false} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			fetch := s.gitEnvironment(s.tls, repo, "upload-pack", sidechannel)
			git(t, directory, fetch, "clone", "--quiet", "--branch=main", "ssh://git@gitaly/x.git", "clone")
			clone := filepath.Join(directory, "clone")
			if got := strings.TrimSpace(git(t, clone, nil, "rev-parse", "HEAD")); got != head {
				t.Errorf("the clone is at %s, not at %s", got, head)
			}
			git(t, clone, nil, "fsck", "--full")
		})
	}
}

// testManyRefs makes a repository from a bundle of many refs, and fetches each of them.
func testManyRefs(t *testing.T, s *setup) {
	source := makeRepository(t, 1, 100)
	head := strings.TrimSpace(git(t, source, nil, "rev-parse", "HEAD"))
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
	git(t, directory, fetch, "clone", "--quiet", "--mirror", "ssh://git@gitaly/x.git", "clone")
	if got := git(t, filepath.Join(directory, "clone"), nil, "for-each-ref", list); got != wanted {
		t.Errorf("%d refs came, not the %d that were sent", strings.Count(got, "\n"), strings.Count(wanted, "\n"))
	}
}

// create makes an empty repository and gives its path.
func (s *setup) create(t testing.TB, address, path string) string {
	t.Helper()
	repositories := gitalypb.NewRepositoryServiceClient(dial(t, address, Token))
	request := &gitalypb.CreateRepositoryRequest{Repository: repository(path)}
	if _, err := repositories.CreateRepository(contextOf(t), request); err != nil {
		t.Fatal(err)
	}
	return path
}

// testWorkhorse asks for a pack as Workhorse does for a fetch by HTTP.
func testWorkhorse(t *testing.T, s *setup) {
	source := makeRepository(t, 120, 64*1024)
	repo := s.create(t, s.tls, "workhorse.git")
	git(t, source, s.gitEnvironment(s.tls, repo, "receive-pack", false), "push", "--quiet", "ssh://git@gitaly/x.git", "main")
	head := strings.TrimSpace(git(t, source, nil, "rev-parse", "HEAD"))

	registry := client.NewSidechannelRegistry(logrus.NewEntry(logrus.StandardLogger()))
	credentials := grpc.WithPerRPCCredentials(gitalyauth.RPCCredentialsV2(Token))
	conn, err := client.DialSidechannel(contextOf(t), s.tls, registry, []grpc.DialOption{credentials})
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
	source := makeRepository(t, 120, 64*1024)
	repo := s.create(t, s.tls, "replicated.git")
	git(t, source, s.gitEnvironment(s.tls, repo, "receive-pack", false), "push", "--quiet", "ssh://git@gitaly/x.git", "main")
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

// gitEnvironment makes git call Gitaly as gitlab-shell does.
func (s *setup) gitEnvironment(address, path, command string, sidechannel bool) []string {
	payload := fmt.Sprintf(
		`{"repository":{"storageName":"default","relativePath":%q,"glRepository":"project-1"},"gitProtocol":"version=2"`, path)
	if command == "receive-pack" {
		payload += `,"glId":"user-1","glUsername":"somebody","glRepository":"project-1"`
	}
	environment := []string{
		"GIT_SSH_VARIANT=simple",
		"GIT_SSH_COMMAND=" + filepath.Join(s.binaries, "gitaly-ssh") + " " + command,
		"GITALY_ADDRESS=" + address,
		"GITALY_TOKEN=" + Token,
		"GITALY_PAYLOAD=" + payload + "}",
		"SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"),
	}
	if sidechannel {
		environment = append(environment, "GITALY_USE_SIDECHANNEL=1")
	}
	return environment
}

// testCounters compares grpc_server_handled_total of the proxy and of both Gitalys, method by method and code by code.
func testCounters(t *testing.T, s *setup) {
	var proxied, served map[string]float64
	// Gitaly counts a call when its handler returns, the proxy when its end has passed; the last may be on their way.
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		proxied = handled(t, s.metrics)
		served = handled(t, s.servers[0].Metrics, s.servers[1].Metrics)
		if maps.Equal(proxied, served) || time.Now().After(deadline) {
			break
		}
	}
	for series, count := range served {
		if proxied[series] != count {
			t.Errorf("%s: Gitaly %g, the proxy %g", series, count, proxied[series])
		}
	}
	for series, count := range proxied {
		if served[series] == 0 {
			t.Errorf("%s: Gitaly nothing, the proxy %g", series, count)
		}
	}
	if len(served) < 12 {
		t.Errorf("only %d series were compared", len(served))
	}
	t.Logf("of %d methods and codes both counted the same", len(served))
}

var series = regexp.MustCompile(`(?m)^grpc_server_handled_total\{(.*)\} (\S+)$`)

// ownSocket is what Gitaly's hooks call: on a socket of its own, that no proxy sees.
const ownSocket = `grpc_service="gitaly.HookService"`

// handled sums the series of grpc_server_handled_total that are not zero, by type, service, method and code.
func handled(t testing.TB, urls ...string) map[string]float64 {
	t.Helper()
	counted := map[string]float64{}
	for _, url := range urls {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range series.FindAllStringSubmatch(string(text), -1) {
			count, err := strconv.ParseFloat(match[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			labels := []string{}
			for label := range strings.SplitSeq(match[1], ",") {
				if strings.HasPrefix(label, "grpc_") {
					labels = append(labels, label)
				}
			}
			slices.Sort(labels)
			if count > 0 && !slices.Contains(labels, ownSocket) {
				counted[strings.Join(labels, ",")] += count
			}
		}
	}
	return counted
}

// git runs it without any configuration of the machine, and gives its output.
func git(t testing.TB, directory string, environment []string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(contextOf(t), "git", arguments...)
	command.Dir = directory
	command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + directory, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}, environment...)
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, problems.String())
	}
	return output.String()
}

// makeRepository has so many commits, each with a file of so many bytes that do not compress.
func makeRepository(t testing.TB, commits, bytes int) string {
	t.Helper()
	directory := t.TempDir()
	git(t, directory, nil, "init", "--quiet", "--initial-branch=main")
	state := uint64(0x9e3779b97f4a7c15)
	for index := range commits {
		content := make([]byte, bytes)
		for offset := range content {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			content[offset] = byte(state)
		}
		commit(t, directory, fmt.Sprintf("file %d", index), content)
	}
	return directory
}

func commit(t testing.TB, directory, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, directory, nil, "add", ".")
	git(t, directory, nil, "commit", "--quiet", "-m", name)
}

func makeBundle(t testing.TB) []byte {
	t.Helper()
	source := makeRepository(t, 10, 100_000)
	file := filepath.Join(t.TempDir(), "bundle")
	git(t, source, nil, "bundle", "create", "--quiet", file, "main")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
