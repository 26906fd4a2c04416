package gitaly

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gitaly-tls-proxy/interop/proxy"
)

// ofPraefect are the RPCs that Praefect calls for a push, a clone and a replication, and the Gitaly that replicates. The votes
// are calls of Gitaly to Praefect, so the policy does not name them.
var ofPraefect = []proxy.Rule{{
	Name:       "praefect",
	Identities: []string{"dns:praefect.internal"},
	Allow: []string{
		"gitaly.RepositoryService/*", "gitaly.SSHService/*", "gitaly.RefService/*", "gitaly.ObjectPoolService/*",
		"gitaly.ServerService/*", "gitaly.InternalGitaly/*", "grpc.health.v1.Health/*",
	},
}}

// testPraefect pushes by a Praefect that reaches two Gitalys by TLS, one of them behind a policy: both vote on the push over
// the stream that each opens back, and one that was away gets what it missed.
func (c *common) testPraefect(t *testing.T) {
	api := StartAPI(t)
	nodes := []*Server{Start(t, c.binaries, "praefect-1", api), Start(t, c.binaries, "praefect-2", api)}
	pair := c.ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:" + freePort(t), Forward: "tcp://" + nodes[1].Address}
	plain := proxy.Start(t, proxy.Configuration{
		TLS:                     &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners:               []proxy.Listener{listener},
		PrometheusListenAddress: "127.0.0.1:0",
	})
	policy := c.guard(t, "tcp://"+nodes[0].Address, ofPraefect, "praefect.internal")
	address := startPraefect(t, c.binaries, map[string]string{
		nodes[0].Storage: policy.addresses["praefect.internal"], nodes[1].Storage: plain.URL(t, listener),
	})
	source := makeRepository(t, 120, 1024)

	c.push(t, address, "replicated.git", source)
	for _, node := range nodes {
		if got := node.replicaAt(t); got != headOf(t, source) {
			t.Errorf("%s is at %q after the push, not at %q", node.Storage, got, headOf(t, source))
		}
	}
	// Each Gitaly votes when a push prepares its references and when it commits them, and when the repository is made.
	for name, inFront := range map[string]*proxy.Proxy{"without a policy": plain, "behind a policy": policy.front} {
		await(t, "the votes of the Gitaly "+name+" to be counted", func() bool {
			return counted(t, inFront, `grpc_code="OK",grpc_method="VoteTransaction",grpc_service="gitaly.RefTransaction",`) >= 2
		})
	}
	if clone := c.clone(t, address, "replicated.git", true); headOf(t, clone) != headOf(t, source) {
		t.Errorf("the clone is at %q, not at %q", headOf(t, clone), headOf(t, source))
	}

	// What the one that is away misses, it fetches from the other, whose address Praefect tells it: through the proxy.
	nodes[1].Kill(t)
	commit(t, source, "while one is away", []byte("more"))
	push := c.gitEnvironment(address, "replicated.git", "receive-pack", false)
	await(t, "Praefect to do without it", func() bool {
		_, err := tryGit(t, source, push, "push", "--quiet", remote, "main")
		return err == nil
	})
	nodes[1].Launch(t)
	await(t, "the Gitaly that was away to have what was pushed", func() bool { return nodes[1].replicaAt(t) == headOf(t, source) })
	await(t, "the replication to be counted", func() bool {
		return counted(t, plain, `grpc_code="OK",grpc_method="ReplicateRepository",`) > 0
	})
	if allowed, denied := policy.decided(t, "allowed"), policy.decided(t, "denied"); allowed == 0 || denied > 0 {
		t.Errorf("the policy has allowed %g calls of Praefect and denied %g", allowed, denied)
	}

	t.Run("a policy in front of Praefect lets a reader clone, and refuses its push", func(t *testing.T) {
		g := c.guard(t, address, writerAndReader, "reader.internal", "writer.internal")
		for _, backchannel := range protocols {
			clone := c.clone(t, g.addresses["reader.internal"], "replicated.git", backchannel)
			commit(t, clone, fmt.Sprintf("of the reader %t", backchannel), []byte("not allowed"))
			err := c.refusedPush(t, clone, g.addresses["reader.internal"], "replicated.git", backchannel)
			assertSaid(t, err, "code = PermissionDenied desc = "+fmt.Sprintf(notAllowed, "SSHService/SSHReceivePack"))
			push := c.gitEnvironment(g.addresses["writer.internal"], "replicated.git", "receive-pack", backchannel)
			git(t, clone, push, "push", "--quiet", remote, "main")
			if got := nodes[0].replicaAt(t); got != headOf(t, clone) {
				t.Errorf("%s is at %q after the push of the writer, not at %q", nodes[0].Storage, got, headOf(t, clone))
			}
		}
	})
}

// counted is how many calls with these labels, sorted by name, a proxy has seen end.
func counted(t testing.TB, running *proxy.Proxy, labels string) float64 {
	t.Helper()
	count := 0.0
	for series, calls := range handled(t, running.MetricsURL(t)) {
		if strings.HasPrefix(series, labels) {
			count += calls
		}
	}
	return count
}

// replicaAt is the commit that the main branch of the only repository points to, and nothing if there is none.
func (s *Server) replicaAt(t testing.TB) string {
	t.Helper()
	// Praefect gives each repository a path of its own.
	found, err := filepath.Glob(filepath.Join(s.Directory, "@cluster/repositories/*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(path string) bool { return !exists(filepath.Join(path, "refs")) })
	if len(found) != 1 {
		t.Fatalf("%s has %d repositories: %v", s.Storage, len(found), found)
	}
	return strings.TrimSpace(git(t, found[0], nil, "for-each-ref", "--format=%(objectname)", "refs/heads/main"))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// startPraefect runs Praefect with a PostgreSQL of its own in front of Gitalys, which are given as addresses by
// storage, and gives its address.
func startPraefect(t *testing.T, binaries string, nodes map[string]string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(startPostgres(t))
	if err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	configuration := fmt.Sprintf(`
listen_addr = %q
[auth]
token = %q
[logging]
format = "json"
level = "warn"
[database]
host = %q
port = %s
user = "praefect"
dbname = "praefect"
sslmode = "disable"
[failover]
enabled = true
[[virtual_storage]]
name = "default"
default_replication_factor = %d
`, listen, Token, host, port, len(nodes))
	for storage, address := range nodes {
		configuration += fmt.Sprintf("[[virtual_storage.node]]\nstorage = %q\naddress = %q\ntoken = %q\n", storage, address, Token)
	}
	file := filepath.Join(t.TempDir(), "praefect.toml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(binaries, "praefect")
	if said, err := exec.Command(program, "-config", file, "sql-migrate").CombinedOutput(); err != nil {
		t.Fatalf("praefect sql-migrate: %v\n%s", err, said)
	}
	launch(t, "praefect", listen, nil, program, "-config", file)
	return "tcp://" + listen
}

// startPostgres runs a PostgreSQL with a user and a database `praefect`, and gives its address.
func startPostgres(t *testing.T) string {
	t.Helper()
	address := freeAddress(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	credential := strangerIfRoot(t, directory)
	run := func(name string, arguments ...string) {
		t.Helper()
		command := exec.CommandContext(contextOf(t), postgresProgram(t, name), arguments...)
		command.Dir = directory
		command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		log := filepath.Join(directory, name+".log")
		output, err := os.Create(log)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = output.Close() }()
		// A pipe would stay open for as long as the server runs.
		command.Stdout, command.Stderr = output, output
		if err := command.Run(); err != nil {
			said, _ := os.ReadFile(log)
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, said)
		}
	}
	data := filepath.Join(directory, "data")
	run("initdb", "--pgdata="+data, "--username=praefect", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	settings := fmt.Sprintf("-c listen_addresses=%s -c port=%s -c unix_socket_directories= -c fsync=off", host, port)
	run("pg_ctl", "--pgdata="+data, "--wait", "--options="+settings, "start")
	t.Cleanup(func() { run("pg_ctl", "--pgdata="+data, "--wait", "--mode=immediate", "stop") })
	run("createdb", "--host="+host, "--port="+port, "--username=praefect", "praefect")
	return address
}

// strangerIfRoot is whom PostgreSQL runs as, which root it refuses to: its directory is made theirs.
func strangerIfRoot(t testing.TB, directory string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	// The folders above belong to the test alone.
	for path := directory; path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(directory, int(id), int(id)); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
}

// postgresProgram is on the PATH, or where Debian keeps it.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		t.Fatalf("there is no %s: the test of Praefect needs PostgreSQL (Debian's package is `postgresql`)", name)
	}
	return found[len(found)-1]
}
