// Package authority makes throwaway certificates, as files for the proxy and in memory for Go's TLS.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Host is the name in every server certificate, beside 127.0.0.1 and ::1.
const Host = "localhost"

// Authority signs certificates; its files live as long as the test that made it.
type Authority struct {
	// CertificatePath is the authority's own certificate (PEM).
	CertificatePath string

	directory   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Pair is a certificate with its key.
type Pair struct {
	CertificatePath string
	KeyPath         string
	TLS             tls.Certificate
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	authority := &Authority{directory: t.TempDir()}
	authority.key = newKey(t)
	template := newTemplate(t, "interop authority")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der := must(x509.CreateCertificate(rand.Reader, template, template, authority.key.Public(), authority.key))(t)
	authority.certificate = must(x509.ParseCertificate(der))(t)
	authority.CertificatePath = authority.write(t, "ca.pem", "CERTIFICATE", der)
	return authority
}

// Server issues a certificate for [Host] and the loopback addresses.
func (a *Authority) Server(t testing.TB) Pair {
	t.Helper()
	template := newTemplate(t, "interop server")
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{Host}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	return a.issue(t, "server", template)
}

// Client issues a certificate for client use, with name as its DNS name.
func (a *Authority) Client(t testing.TB, name string) Pair {
	t.Helper()
	template := newTemplate(t, name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{name}
	return a.issue(t, name, template)
}

// Gitaly issues a certificate of a server that is good for client use, too, with name as its DNS name beside [Host]: what a
// Gitaly needs that calls GitLab.
func (a *Authority) Gitaly(t testing.TB, name string) Pair {
	t.Helper()
	template := newTemplate(t, name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{name, Host}
	return a.issue(t, name, template)
}

// Pool holds this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a *Authority) issue(t testing.TB, file string, template *x509.Certificate) Pair {
	t.Helper()
	key := newKey(t)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der := must(x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key))(t)
	pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))(t)
	return Pair{
		CertificatePath: a.write(t, file+".pem", "CERTIFICATE", der),
		KeyPath:         a.write(t, file+".key", "PRIVATE KEY", pkcs8),
		TLS:             tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

func (a *Authority) write(t testing.TB, name, block string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.directory, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

// newTemplate is valid from an hour ago, for clocks that differ a little.
func newTemplate(t testing.TB, commonName string) *x509.Certificate {
	t.Helper()
	serial := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))(t)
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
