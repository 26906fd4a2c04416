package proxy

// Configuration is the part of the proxy's configuration file that the tests set. It is written as JSON, which is YAML.
type Configuration struct {
	TLS                    *TLS       `json:"tls,omitempty"`
	Listeners              []Listener `json:"listeners"`
	GracefulRestartTimeout string     `json:"graceful_restart_timeout,omitempty"`
	// RPCsPath is a table of RPCs beside the built-in one.
	RPCsPath string `json:"rpcs_path,omitempty"`
	// AbuseLimits are the limits on one connection, by name.
	AbuseLimits map[string]any `json:"abuse_limits,omitempty"`
	// PrometheusListenAddress is that of the admin port, which [Proxy.MetricsURL] is on.
	PrometheusListenAddress string `json:"prometheus_listen_addr,omitempty"`
	AuditLogPath            string `json:"audit_log_path,omitempty"`
}

// TLS is how tls:// listeners do TLS.
type TLS struct {
	CertificatePath string `json:"certificate_path"`
	KeyPath         string `json:"key_path"`
	ClientAuth      string `json:"client_auth,omitempty"`
	ClientCAPath    string `json:"client_ca_path,omitempty"`
	RequireALPN     *bool  `json:"require_alpn,omitempty"`
}

// Listener is one pair of addresses.
type Listener struct {
	Listen      string       `json:"listen"`
	Forward     string       `json:"forward"`
	Policy      *Policy      `json:"policy,omitempty"`
	UpstreamTLS *UpstreamTLS `json:"upstream_tls,omitempty"`
	// ClientCertificateHeaders is for https:// listeners.
	ClientCertificateHeaders bool `json:"client_certificate_headers,omitempty"`
	// UpstreamTokenPath is a file with Gitaly's token, for calls that have none.
	UpstreamTokenPath string `json:"upstream_token_path,omitempty"`
}

// Policy refuses calls.
type Policy struct {
	Mode     string `json:"mode"`
	Rules    []Rule `json:"rules"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Rule allows the clients with these identities some methods.
type Rule struct {
	// Name is the label of the rule in metrics and messages.
	Name       string   `json:"name,omitempty"`
	Identities []string `json:"identities"`
	Allow      []string `json:"allow"`
}

// UpstreamTLS is how a tls:// upstream is reached.
type UpstreamTLS struct {
	CAPath          string `json:"ca_path,omitempty"`
	CertificatePath string `json:"certificate_path,omitempty"`
	KeyPath         string `json:"key_path,omitempty"`
	ServerName      string `json:"server_name,omitempty"`
}
