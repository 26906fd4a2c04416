package interop_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// TestH2spec runs all cases of h2spec, strict ones too, against Go's own HTTP/2 server, and again through the proxy: what
// passes without it passes with it.
func TestH2spec(t *testing.T) {
	t.Parallel()
	upstream := startHTTP2(t)
	direct := runH2spec(t, upstream, false)
	running, url, _ := startInFront(t, "tcp://"+upstream)
	address := strings.TrimPrefix(url, "tls://")
	through := runH2spec(t, address, true)
	if anyIsWorse(direct, through) {
		// h2spec waits 4 s for each answer: on a machine that is busy with other tests a case may be late, but not twice.
		for name, ok := range runH2spec(t, address, true) {
			through[name] = through[name] || ok
		}
	}
	running.Stop(t)
	if len(direct) < 140 || len(through) != len(direct) {
		t.Fatalf("%d cases ran without the proxy, %d through it", len(direct), len(through))
	}
	passed := 0
	for name, ok := range direct {
		if ok && !through[name] {
			t.Errorf("fails through the proxy alone: %s", name)
		}
		if through[name] {
			passed++
		}
	}
	t.Logf("%d of %d cases pass through the proxy", passed, len(through))
}

func anyIsWorse(direct, through map[string]bool) bool {
	for name, ok := range direct {
		if ok && !through[name] {
			return true
		}
	}
	return false
}

// startHTTP2 starts Go's HTTP/2 server without TLS and gives its address.
func startHTTP2(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Protocols: protocols,
		Handler: http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
			// Else it is chance whether the answer ends the stream before what is wrong with the request has come.
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				return
			}
			_, _ = answer.Write([]byte("an answer of some bytes"))
		}),
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// runH2spec gives, by their names, whether the cases passed.
func runH2spec(t *testing.T, address string, tls bool) map[string]bool {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	settings := &config.Config{
		Host: host, Port: port, Path: "/", Timeout: 4 * time.Second, MaxHeaderLen: 4000,
		Strict: true, TLS: tls, Insecure: true,
	}
	results := map[string]bool{}
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(settings)
		collect(group, results)
	}
	return results
}

func collect(group *spec.TestGroup, results map[string]bool) {
	for index, test := range append(append([]*spec.TestCase{}, group.Tests...), group.StrictTests...) {
		name := fmt.Sprintf("%s/%d %s", group.ID(), index+1, test.Desc)
		results[name] = test.Result != nil && !test.Result.Failed && !test.Result.Skipped
	}
	for _, each := range group.Groups {
		collect(each, results)
	}
}
