package gitaly

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"gitaly-tls-proxy/interop/authority"
	"gitaly-tls-proxy/interop/proxy"

	"github.com/sirupsen/logrus"
	gitalyauth "gitlab.com/gitlab-org/gitaly/v15/auth"
	"gitlab.com/gitlab-org/gitaly/v15/client"
	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// protocols are the ways in which a client calls Gitaly. The value is whether it uses the backchannel.
var protocols = map[string]bool{"HTTP/2": false, "the backchannel": true}

// writerAndReader let one client make every call, and the other those that change nothing.
var writerAndReader = []proxy.Rule{
	{Name: "writer", Identities: []string{"dns:writer.internal"}, Allow: []string{"*"}},
	{Name: "reader", Identities: []string{"dns:reader.internal"}, Allow: []string{"accessor", "grpc.health.v1.Health/*"}},
}

// What a client is sent whose call is refused, as regular expressions. The RPC is inserted.
const (
	notAllowed = `gitaly-tls-proxy: dns:reader\.internal may not call gitaly\.%s \(mutator\): ` +
		`rule "reader" does not allow it; fix: add the RPC to .allow. of this rule, or use an identity that may call it`
	readOnly = `gitaly-tls-proxy: dns:writer\.internal may not call gitaly\.%s \(mutator\): ` +
		`Gitaly is read-only; rule "writer" allows it otherwise; fix: try again later, or set .read_only: false. in .policy.`
)

// guarded is a Gitaly or a Praefect behind a proxy with a policy. Clients of GitLab cannot present a certificate: a proxy on
// their side does it for them.
type guarded struct {
	*common
	configuration proxy.Configuration
	front         *proxy.Proxy
	// addresses are those of the proxy on the clients' side, by the name in the certificate that it presents.
	addresses map[string]string
}

// guard starts both proxies in front of an address.
func (c *common) guard(t *testing.T, forward string, rules []proxy.Rule, names ...string) *guarded {
	t.Helper()
	// Its own: other tests write certificates of the shared one anew, and each time the proxy would reload.
	ca := authority.New(t)
	server := ca.Server(t)
	listener := proxy.Listener{
		Listen: "tls://127.0.0.1:" + freePort(t), Forward: forward, Policy: &proxy.Policy{Mode: "enforce", Rules: rules},
	}
	g := &guarded{common: c, addresses: map[string]string{}, configuration: proxy.Configuration{
		TLS: &proxy.TLS{
			CertificatePath: server.CertificatePath, KeyPath: server.KeyPath,
			ClientAuth: "require", ClientCAPath: ca.CertificatePath,
		},
		Listeners:               []proxy.Listener{listener},
		PrometheusListenAddress: "127.0.0.1:" + freePort(t),
	}}
	clientSide := []proxy.Listener{}
	for _, name := range names {
		pair := ca.Client(t, name)
		clientMode := proxy.Listener{
			Listen: "tcp://127.0.0.1:" + freePort(t), Forward: listener.Listen,
			UpstreamTLS: &proxy.UpstreamTLS{
				CAPath: ca.CertificatePath, CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath,
			},
		}
		clientSide = append(clientSide, clientMode)
		g.addresses[name] = clientMode.Listen
	}
	g.front = proxy.Start(t, g.configuration)
	onClientSide := proxy.Start(t, proxy.Configuration{Listeners: clientSide})
	t.Cleanup(func() {
		onClientSide.Stop(t)
		g.front.Stop(t)
	})
	return g
}

// refusedPush gives what git says of a push that is refused. If gitaly-ssh was refused before it has sent its first message, it
// says EOF in place of the status, and the push is made again.
func (c *common) refusedPush(t *testing.T, directory, address, path string, backchannel bool) (err error) {
	t.Helper()
	push := c.gitEnvironment(address, path, "receive-pack", backchannel)
	await(t, "git to say why a push is refused", func() bool {
		if _, err = tryGit(t, directory, push, "push", remote, "main"); err == nil {
			t.Fatal("the push passed")
		}
		return !strings.Contains(err.Error(), "receive-pack: EOF")
	})
	return err
}

// setReadOnly reloads the policy with this value of read_only.
func (g *guarded) setReadOnly(t *testing.T, readOnly bool) {
	t.Helper()
	g.configuration.Listeners[0].Policy.ReadOnly = readOnly
	g.front.Reconfigure(t, g.configuration)
}

// decided is the number of calls on which the policy has decided in this way.
func (g *guarded) decided(t testing.TB, decision string) float64 {
	t.Helper()
	counter := "gitaly_tls_proxy_policy_decisions_total"
	return sums(t, counter, []string{"decision"}, g.front.MetricsURL(t))[fmt.Sprintf("decision=%q", decision)]
}

// policySetup is a real Gitaly behind a policy that names a writer and a reader.
type policySetup struct {
	*guarded
	server         *Server
	writer, reader string
	// source is a local repository, larger than what a valve lets pass.
	source string
}

// testPolicy has GitLab's own clients call a real Gitaly behind a policy.
func (c *common) testPolicy(t *testing.T) {
	server := Start(t, c.binaries, "default", StartAPI(t))
	g := c.guard(t, "tcp://"+server.Address, writerAndReader, "writer.internal", "reader.internal")
	s := &policySetup{
		guarded: g, server: server,
		writer: g.addresses["writer.internal"], reader: g.addresses["reader.internal"],
		source: makeRepository(t, 6, 1024*1024),
	}
	for name, backchannel := range protocols {
		t.Run("git of a reader by "+name+" clones and fetches, and says why its push is refused", func(t *testing.T) {
			s.testReader(t, backchannel)
		})
		t.Run("a push by HTTP, as Workhorse makes it by "+name+", is refused after the refs were advertised", func(t *testing.T) {
			s.testPostReceivePack(t, backchannel)
		})
		t.Run("refused calls by "+name+" do not disturb those that are allowed on the same connection", func(t *testing.T) {
			s.testMixed(t, backchannel)
		})
	}
	t.Run("a reader fetches by PostUploadPackWithSidechannel, as Workhorse does", func(t *testing.T) {
		s.pushAsWriter(t, "workhorse.git", true)
		fetchAsWorkhorse(t, s.reader, "workhorse.git", headOf(t, s.source))
	})
	t.Run("a push that runs while a reload sets read_only ends well, and the next is refused", s.testReadOnly)
	t.Run("Gitaly has started as many calls as the policy has allowed", func(t *testing.T) {
		var started, allowed float64
		await(t, "both to have counted the same", func() bool {
			started, allowed = 0, g.decided(t, "allowed")
			for _, calls := range s.started(t) {
				started += calls
			}
			return started == allowed
		})
		t.Logf("%g calls were allowed and started, %g were refused", allowed, g.decided(t, "denied"))
	})
}

// started is what Gitaly itself has counted when it called a handler, by type, service and method.
func (s *policySetup) started(t testing.TB) map[string]float64 {
	t.Helper()
	return sums(t, "grpc_server_started_total", []string{"grpc_"}, s.server.Metrics)
}

// startsNothing asserts that Gitaly has called no handler since it had started these.
func (s *policySetup) startsNothing(t *testing.T, before map[string]float64) {
	t.Helper()
	if after := s.started(t); !maps.Equal(after, before) {
		t.Errorf("Gitaly has started %v, and before the refused calls %v", after, before)
	}
}

func (s *policySetup) pushAsWriter(t *testing.T, path string, backchannel bool) {
	t.Helper()
	s.create(t, s.writer, path)
	git(t, s.source, s.gitEnvironment(s.writer, path, "receive-pack", backchannel), "push", "--quiet", remote, "main")
}

// stored is the commit that the main branch of a repository points to on Gitaly's disk.
func (s *policySetup) stored(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimSpace(git(t, filepath.Join(s.server.Directory, path), nil, "rev-parse", "main"))
}

// pushRefused asserts that a push of a local repository is refused, that git shows why, and that Gitaly has not seen it.
func (s *policySetup) pushRefused(t *testing.T, directory, address, path string, backchannel bool, wanted string) {
	t.Helper()
	before, stored := s.started(t), s.stored(t, path)
	assertSaid(t, s.refusedPush(t, directory, address, path, backchannel), fmt.Sprintf(wanted, "SSHService/SSHReceivePack"))
	s.startsNothing(t, before)
	if after := s.stored(t, path); after != stored {
		t.Errorf("the refused push has moved main from %s to %s", stored, after)
	}
}

func (s *policySetup) testReader(t *testing.T, backchannel bool) {
	path := fmt.Sprintf("reader-%t.git", backchannel)
	s.pushAsWriter(t, path, backchannel)
	clone := s.clone(t, s.reader, path, backchannel)
	if got, head := headOf(t, clone), headOf(t, s.source); got != head {
		t.Errorf("the clone is at %s, not at %s", got, head)
	}
	commit(t, s.source, path, []byte("one more"))
	git(t, s.source, s.gitEnvironment(s.writer, path, "receive-pack", backchannel), "push", "--quiet", remote, "main")
	fetch := s.gitEnvironment(s.reader, path, "upload-pack", backchannel)
	git(t, clone, fetch, "pull", "--quiet", "--ff-only")
	if got, head := headOf(t, clone), headOf(t, s.source); got != head {
		t.Errorf("after the fetch the clone is at %s, not at %s", got, head)
	}
	commit(t, clone, "of the reader", []byte("not allowed"))
	s.pushRefused(t, clone, s.reader, path, backchannel, "code = PermissionDenied desc = "+notAllowed)
	git(t, clone, fetch, "fetch", "--quiet")
}

// connect makes the connection of a client of GitLab: Workhorse and gitlab-shell use the backchannel, Rails does not.
func connect(t *testing.T, address string, backchannel bool) *grpc.ClientConn {
	t.Helper()
	if !backchannel {
		return dial(t, address, Token)
	}
	registry := client.NewSidechannelRegistry(logrus.NewEntry(logrus.StandardLogger()))
	credentials := grpc.WithPerRPCCredentials(gitalyauth.RPCCredentialsV2(Token))
	conn, err := client.DialSidechannel(contextOf(t), address, registry, []grpc.DialOption{credentials})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// refusedWith asserts the status of a refused call.
func refusedWith(t *testing.T, err error, code codes.Code, message, rpc string) {
	t.Helper()
	pattern := "^" + fmt.Sprintf(message, rpc) + "$"
	if status.Code(err) != code || !regexp.MustCompile(pattern).MatchString(status.Convert(err).Message()) {
		t.Errorf("%s: %v, not %s", rpc, err, code)
	}
}

// postReceivePack pushes nothing.
func postReceivePack(ctx context.Context, conn *grpc.ClientConn, path string) error {
	stream, err := gitalypb.NewSmartHTTPServiceClient(conn).PostReceivePack(ctx)
	if err != nil {
		return err
	}
	// A refused call ends with EOF here, and with its status below.
	_ = stream.Send(&gitalypb.PostReceivePackRequest{
		Repository: repository(path), GlId: "user-1", GlUsername: "somebody", GlRepository: "project-1",
	})
	_ = stream.Send(&gitalypb.PostReceivePackRequest{Data: []byte("0000")})
	_ = stream.CloseSend()
	return drained(stream.Recv)
}

// drained receives all answers of a call, and gives its error.
func drained[Answer any](receive func() (Answer, error)) error {
	for {
		if _, err := receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (s *policySetup) testPostReceivePack(t *testing.T, backchannel bool) {
	path := fmt.Sprintf("post-%t.git", backchannel)
	s.create(t, s.writer, path)
	ctx := contextOf(t)
	conn := connect(t, s.reader, backchannel)
	refs, err := gitalypb.NewSmartHTTPServiceClient(conn).InfoRefsReceivePack(ctx, &gitalypb.InfoRefsRequest{Repository: repository(path)})
	if err != nil {
		t.Fatal(err)
	}
	if err := drained(refs.Recv); err != nil {
		t.Fatalf("InfoRefsReceivePack: %v", err)
	}
	before := s.started(t)
	refusedWith(t, postReceivePack(ctx, conn, path), codes.PermissionDenied, notAllowed, "SmartHTTPService/PostReceivePack")
	s.startsNothing(t, before)
	if err := postReceivePack(ctx, connect(t, s.writer, backchannel), path); err != nil {
		t.Errorf("the writer: %v", err)
	}
}

// testMixed makes both kinds of calls at once: unary ones, and uploads that are longer than the window of a connection.
func (s *policySetup) testMixed(t *testing.T, backchannel bool) {
	const rounds = 25
	path := fmt.Sprintf("mixed-%t.git", backchannel)
	s.create(t, s.writer, path)
	ctx := contextOf(t)
	repositories := gitalypb.NewRepositoryServiceClient(connect(t, s.reader, backchannel))
	before := s.started(t)
	var calls sync.WaitGroup
	for range rounds {
		calls.Go(func() {
			answer, err := repositories.RepositoryExists(ctx, &gitalypb.RepositoryExistsRequest{Repository: repository(path)})
			if err != nil || !answer.GetExists() {
				t.Errorf("RepositoryExists: %v, %v", answer, err)
			}
		})
		calls.Go(func() {
			_, err := repositories.RemoveRepository(ctx, &gitalypb.RemoveRepositoryRequest{Repository: repository(path)})
			refusedWith(t, err, codes.PermissionDenied, notAllowed, "RepositoryService/RemoveRepository")
		})
		calls.Go(func() {
			err := upload(ctx, repositories, "refused.git", 1024*1024)
			refusedWith(t, err, codes.PermissionDenied, notAllowed, "RepositoryService/CreateRepositoryFromBundle")
		})
	}
	calls.Wait()
	after := s.started(t)
	const exists = `grpc_method="RepositoryExists",grpc_service="gitaly.RepositoryService",grpc_type="unary"`
	before[exists] += rounds
	if !maps.Equal(after, before) {
		t.Errorf("Gitaly has started %v, not %v", after, before)
	}
}

// upload sends bytes that are no bundle.
func upload(ctx context.Context, repositories gitalypb.RepositoryServiceClient, path string, bytes int) error {
	stream, err := repositories.CreateRepositoryFromBundle(ctx)
	if err != nil {
		return err
	}
	request := &gitalypb.CreateRepositoryFromBundleRequest{Repository: repository(path), Data: make([]byte, 32*1024)}
	for sent := 0; sent < bytes && err == nil; sent += len(request.GetData()) {
		err = stream.Send(request)
	}
	_, err = stream.CloseAndRecv()
	return err
}

// runningPush is one that a valve keeps from going on.
type runningPush struct {
	path        string
	backchannel bool
	valve       *Valve
	ended       chan error
}

func (s *policySetup) testReadOnly(t *testing.T) {
	_, writer, _ := strings.Cut(s.writer, "://")
	pushes := []*runningPush{}
	open := map[bool]gitalypb.RepositoryServiceClient{}
	for _, backchannel := range protocols {
		push := &runningPush{
			path: fmt.Sprintf("running-%t.git", backchannel), backchannel: backchannel,
			valve: NewValve(t, writer), ended: make(chan error, 1),
		}
		open[backchannel] = gitalypb.NewRepositoryServiceClient(connect(t, s.writer, backchannel))
		if _, err := open[backchannel].CreateRepository(contextOf(t), &gitalypb.CreateRepositoryRequest{Repository: repository(push.path)}); err != nil {
			t.Fatal(err)
		}
		go func() {
			environment := s.gitEnvironment("tcp://"+push.valve.Address, push.path, "receive-pack", push.backchannel)
			_, err := tryGit(t, s.source, environment, "push", "--quiet", remote, "main")
			push.ended <- err
		}()
		pushes = append(pushes, push)
	}
	for _, push := range pushes {
		select {
		case <-push.valve.Shut:
		case err := <-push.ended:
			t.Fatalf("the push to %s ended before read_only was set: %v", push.path, err)
		}
	}
	s.setReadOnly(t, true)
	before := s.started(t)
	for _, repositories := range open {
		_, err := repositories.CreateRepository(contextOf(t), &gitalypb.CreateRepositoryRequest{Repository: repository("read-only.git")})
		refusedWith(t, err, codes.FailedPrecondition, readOnly, "RepositoryService/CreateRepository")
	}
	s.startsNothing(t, before)
	for _, push := range pushes {
		push.valve.Open()
		if err := <-push.ended; err != nil {
			t.Errorf("the push that ran while read_only was set: %v", err)
		} else if got, head := s.stored(t, push.path), headOf(t, s.source); got != head {
			t.Errorf("%s is at %s, not at %s", push.path, got, head)
		}
	}
	commit(t, s.source, "while it is read-only", []byte("not yet"))
	for _, push := range pushes {
		s.pushRefused(t, s.source, s.writer, push.path, push.backchannel, "code = FailedPrecondition desc = "+readOnly)
		s.clone(t, s.reader, push.path, push.backchannel)
	}
	s.setReadOnly(t, false)
	for _, push := range pushes {
		git(t, s.source, s.gitEnvironment(s.writer, push.path, "receive-pack", push.backchannel), "push", "--quiet", remote, "main")
	}
}
