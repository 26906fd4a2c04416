package service

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Trust is how a client does TLS that trusts the authority in the file ca and expects a certificate of serverName; without
// a file it trusts whom the system trusts.
func Trust(ca, serverName string) (*tls.Config, error) {
	config := &tls.Config{ServerName: serverName}
	if ca == "" {
		return config, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return config, nil
}
