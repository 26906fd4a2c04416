package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
)

// target is where the load goes: a proxy's TLS port, or the backend itself.
type target struct {
	address string
	tls     *tls.Config
}

// tlsFacts says what was negotiated; the report shows that all proxies did the same cryptography.
type tlsFacts struct {
	Version string `json:"version"`
	Cipher  string `json:"cipher"`
	Group   string `json:"group"`
	ALPN    string `json:"alpn"`
}

// newTarget reads "tls://127.0.0.1:PORT" or "tcp://127.0.0.1:PORT". Only loopback is allowed: this is a load
// generator. The key exchange is pinned to X25519, which every peer speaks; current Go and OpenSSL would else
// choose a post-quantum one where the others cannot. There is no session cache, so every handshake is a full one.
//
// The certificate of the proxies is also that of the client, which presents it if it is asked and has the key.
func newTarget(url, caPath, keyPath string) (*target, error) {
	scheme, address, _ := strings.Cut(url, "://")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("the load stays on loopback: " + url)
	}
	switch scheme {
	case "tcp":
		return &target{address: address}, nil
	case "tls":
		certificate, err := os.ReadFile(caPath)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(certificate) {
			return nil, errors.New("no certificate in " + caPath)
		}
		var own []tls.Certificate
		if keyPath != "" {
			pair, err := tls.LoadX509KeyPair(caPath, keyPath)
			if err != nil {
				return nil, err
			}
			own = append(own, pair)
		}
		return &target{address: address, tls: &tls.Config{
			Certificates:     own,
			RootCAs:          roots,
			ServerName:       "localhost",
			MinVersion:       tls.VersionTLS13,
			NextProtos:       []string{"h2"},
			CurvePreferences: []tls.CurveID{tls.X25519},
		}}, nil
	default:
		return nil, errors.New("neither tls:// nor tcp://: " + url)
	}
}

// dial opens one connection and finishes the TLS handshake.
func (t *target) dial(ctx context.Context) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.address)
	if err != nil || t.tls == nil {
		return raw, err
	}
	conn := tls.Client(raw, t.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// facts makes one connection to see what it negotiates; nil for plaintext.
func (t *target) facts(ctx context.Context) (*tlsFacts, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	state := secure.ConnectionState()
	return &tlsFacts{
		Version: tls.VersionName(state.Version),
		Cipher:  tls.CipherSuiteName(state.CipherSuite),
		Group:   state.CurveID.String(),
		ALPN:    state.NegotiatedProtocol,
	}, nil
}
