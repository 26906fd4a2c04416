package gitaly

import (
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

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

// ownSocket is what Gitaly's hooks call: on a socket of its own, that no proxy sees.
const ownSocket = `grpc_service="gitaly.HookService"`

// handled sums the series of grpc_server_handled_total that are not zero, by type, service, method and code.
func handled(t testing.TB, urls ...string) map[string]float64 {
	t.Helper()
	return sums(t, "grpc_server_handled_total", []string{"grpc_"}, urls...)
}

// sums adds up the series of a counter that are not zero, by the labels whose names begin with one of the prefixes.
func sums(t testing.TB, counter string, prefixes []string, urls ...string) map[string]float64 {
	t.Helper()
	series := regexp.MustCompile(`(?m)^` + counter + `\{(.*)\} (\S+)$`)
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
				if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(label, prefix) }) {
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
