package gitaly

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// internalAPI is what the paths of GitLab's internal API begin with.
const internalAPI = "/api/v4/internal/"

// API stands in for GitLab's internal API, which the hooks of a push call.
type API struct {
	URL string
	// Allowed counts the pushes that asked for leave.
	Allowed atomic.Int64

	server *httptest.Server
	mutex  sync.Mutex
	calls  []APICall
}

// APICall is one that has come.
type APICall struct {
	// Name is the path behind internalAPI.
	Name string
	// Identity is whose certificate the proxy has said that it is (X-SSL-Client-Identity).
	Identity string
	// Certificate is the first DNS name in the certificate that came by this very connection.
	Certificate string
	// HasToken says whether Gitaly's token came.
	HasToken bool
}

// StartAPI answers that everything is allowed.
func StartAPI(t testing.TB) *API {
	t.Helper()
	api := newAPI(t)
	api.server.Start()
	api.URL = api.server.URL
	return api
}

// StartAPIWithTLS is one at https://.
func StartAPIWithTLS(t testing.TB, config *tls.Config) *API {
	t.Helper()
	api := newAPI(t)
	api.server.TLS = config
	api.server.StartTLS()
	api.URL = api.server.URL
	return api
}

// StartAPIAt is one on a unix socket.
func StartAPIAt(t testing.TB, path string) *API {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	api := newAPI(t)
	_ = api.server.Listener.Close()
	api.server.Listener = listener
	api.server.Start()
	api.URL = "unix:" + path
	return api
}

func newAPI(t testing.TB) *API {
	t.Helper()
	api := &API{}
	answer := func(content any) http.HandlerFunc {
		return func(writer http.ResponseWriter, request *http.Request) {
			api.note(request)
			writer.Header().Set("content-type", "application/json")
			_ = json.NewEncoder(writer).Encode(content)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc(internalAPI+"check", answer(map[string]any{
		"api_version": "v4", "gitlab_version": "15.11.13", "gitlab_rev": "0", "redis": true,
	}))
	mux.HandleFunc(internalAPI+"allowed", func(writer http.ResponseWriter, request *http.Request) {
		api.Allowed.Add(1)
		answer(map[string]any{"status": true})(writer, request)
	})
	mux.HandleFunc(internalAPI+"pre_receive", answer(map[string]any{"reference_counter_increased": true}))
	mux.HandleFunc(internalAPI+"post_receive", answer(map[string]any{
		"reference_counter_decreased": true, "messages": []any{},
	}))
	api.server = httptest.NewUnstartedServer(mux)
	t.Cleanup(api.server.Close)
	return api
}

// Stop ends it; nobody listens any more.
func (a *API) Stop() {
	a.server.Close()
}

// TakeCalls gives the calls since it was last asked.
func (a *API) TakeCalls() []APICall {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	calls := a.calls
	a.calls = nil
	return calls
}

func (a *API) note(request *http.Request) {
	call := APICall{
		Name:     strings.TrimPrefix(request.URL.Path, internalAPI),
		Identity: request.Header.Get("X-SSL-Client-Identity"),
		HasToken: request.Header.Get("Gitlab-Shell-Api-Request") != "",
	}
	if request.TLS != nil && len(request.TLS.PeerCertificates) > 0 {
		call.Certificate = request.TLS.PeerCertificates[0].DNSNames[0]
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.calls = append(a.calls, call)
}
