package gitaly

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitaly-tls-proxy/interop/proxy"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// documented is the query of GitLab's documentation.
const documented = `sum(rate(gitaly_connections_total[5m])) by (type)`

// ofProxy and byJob tell the proxy's clients from the proxy itself, which is a client of Gitaly.
const (
	ofProxy = `sum(rate(gitaly_tls_proxy_connections_total[5m])) by (type)`
	byJob   = `sum(rate(gitaly_connections_total{job="gitaly-tls-proxy"}[5m])) by (type)`
)

// grownAtGitaly shows that Gitaly has been scraped since a client called it: it counts connections before calls.
const grownAtGitaly = `sum by (job) (rate(grpc_server_started_total{job="gitaly",grpc_method="Check"}[5m]))`

// interval is that of scrapes. A shorter one keeps a small machine busy with scrapes.
const interval = time.Second

// exampleScrape is the scrape configuration that the documents refer to.
const exampleScrape = "../../config/prometheus.example.yml"

// plainScrape scrapes both, and drops nothing.
const plainScrape = `scrape_configs:
  - job_name: gitaly-tls-proxy
    static_configs: [{ targets: ['127.0.0.1:9237'] }]
  - job_name: gitaly
    static_configs: [{ targets: ['127.0.0.1:9236'] }]
`

// testPrometheus lets a real Prometheus scrape a real Gitaly and the proxy in front of it, while all clients use TLS.
func (c *common) testPrometheus(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("there is no prometheus (Debian's package is `prometheus`)")
	}
	server := Start(t, c.binaries, "default", StartAPI(t))
	example, err := os.ReadFile(exampleScrape)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("forward: unix: makes the documented query work as it is", func(t *testing.T) {
		front := c.inFront(t, "unix:"+server.Socket)
		plain := startPrometheus(t, plainScrape, front, server)
		front.connectUntilCounted(t, plain)
		plain.expectTypes(t, documented, []string{"tls", "unix"}, "tcp")
	})
	t.Run("forward: tcp://", func(t *testing.T) {
		front := c.inFront(t, "tcp://"+server.Address)
		plain := startPrometheus(t, plainScrape, front, server)
		dropping := startPrometheus(t, string(example), front, server)
		front.connectUntilCounted(t, plain, dropping)
		// Otherwise nothing below shows anything.
		plain.expectTypes(t, documented, []string{"tls", "tcp"})
		for _, query := range []string{ofProxy, byJob} {
			plain.expectTypes(t, query, []string{"tls"}, "tcp", "unix")
		}
		dropping.expectTypes(t, documented, []string{"tls"}, "tcp", "unix")
		if jobs := dropping.query(t, `count by (job) (grpc_server_started_total)`, "job"); len(jobs) != 1 {
			t.Errorf("grpc_server_started_total is stored from %v", jobs)
		}
	})
}

// scraped is a proxy with one TLS listener, whose metrics are scraped.
type scraped struct {
	url, metrics string
}

func (c *common) inFront(t *testing.T, forward string) scraped {
	t.Helper()
	pair := c.ca.Server(t)
	listener := proxy.Listener{Listen: "tls://127.0.0.1:0", Forward: forward}
	front := proxy.Start(t, proxy.Configuration{
		TLS:                     &proxy.TLS{CertificatePath: pair.CertificatePath, KeyPath: pair.KeyPath},
		Listeners:               []proxy.Listener{listener},
		PrometheusListenAddress: "127.0.0.1:0",
	})
	t.Cleanup(func() { front.Stop(t) })
	return scraped{url: front.URL(t, listener), metrics: front.MetricsURL(t)}
}

// connectUntilCounted makes connections with a call each, until each Prometheus has seen the number of both programs grow.
func (s scraped) connectUntilCounted(t *testing.T, all ...*prometheus) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(interval / 2) {
		s.connect(t)
		missing := slices.ContainsFunc(all, func(each *prometheus) bool {
			return total(each.query(t, grownAtGitaly, "job")) == 0 || total(each.query(t, ofProxy, "type")) == 0
		})
		if !missing {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for Prometheus to see connections on both sides", patience)
		}
	}
}

func (s scraped) connect(t *testing.T) {
	t.Helper()
	conn := dial(t, s.url, Token)
	defer func() { _ = conn.Close() }()
	request := &healthpb.HealthCheckRequest{}
	if _, err := healthpb.NewHealthClient(conn).Check(contextOf(t), request, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

func total(values map[string]float64) float64 {
	sum := 0.0
	for _, value := range values {
		sum += value
	}
	return sum
}

// prometheus is a running one.
type prometheus struct {
	url string
}

// startPrometheus scrapes a proxy and a Gitaly in place of the addresses that the configuration names.
func startPrometheus(t *testing.T, scrape string, front scraped, server *Server) *prometheus {
	t.Helper()
	host := func(metrics string) string {
		return strings.TrimSuffix(strings.TrimPrefix(metrics, "http://"), "/metrics")
	}
	targets := strings.NewReplacer("127.0.0.1:9237", host(front.metrics), "127.0.0.1:9236", host(server.Metrics))
	directory := t.TempDir()
	configuration := filepath.Join(directory, "prometheus.yml")
	content := fmt.Sprintf("global: { scrape_interval: %s, scrape_timeout: %s }\n", interval, interval) + targets.Replace(scrape)
	if err := os.WriteFile(configuration, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	launch(t, "prometheus", address, nil, "prometheus", "--config.file="+configuration,
		"--storage.tsdb.path="+filepath.Join(directory, "data"), "--web.listen-address="+address)
	started := &prometheus{url: "http://" + address}
	await(t, "prometheus to scrape both", func() bool {
		up := started.query(t, "up == 1", "job")
		return len(up) == 2
	})
	return started
}

// query gives the values of a query by one label. It is empty while Prometheus is not ready.
func (p *prometheus) query(t *testing.T, query, label string) map[string]float64 {
	t.Helper()
	response, err := http.Get(p.url + "/api/v1/query?" + url.Values{"query": {query}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	var answer struct {
		Status string `json:"status"`
		Data   struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: status %q, %v", query, answer.Status, err)
	}
	values := map[string]float64{}
	for _, result := range answer.Data.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(result.Value[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		values[result.Metric[label]] = value
	}
	return values
}

// expectTypes waits until a query shows these types of connections, and expects the others at 0.
func (p *prometheus) expectTypes(t *testing.T, query string, shown []string, zero ...string) {
	t.Helper()
	var types map[string]float64
	for deadline := time.Now().Add(patience); ; time.Sleep(interval / 2) {
		types = p.query(t, query, "type")
		missing := false
		for _, name := range shown {
			missing = missing || types[name] == 0
		}
		if !missing {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s shows %v, and is to show %v", query, types, shown)
		}
	}
	for _, name := range zero {
		if types[name] != 0 {
			t.Errorf("%s shows %v: %s is not at 0", query, types, name)
		}
	}
	t.Logf("%s: %v", query, types)
}
