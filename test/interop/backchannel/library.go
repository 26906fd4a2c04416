package backchannel

import (
	"context"
	"io"
	"net"

	hashicorp "github.com/hashicorp/yamux"
	libp2p "github.com/libp2p/go-yamux/v5"
)

// Library is an implementation of yamux.
type Library string

const (
	// Hashicorp is what the clients of Gitaly use, and the server up to version 17. It is the default.
	Hashicorp Library = "hashicorp"
	// Libp2p is what the server uses from version 18 on: it measures the round trip with PINGs, its windows grow, and its
	// resets carry a code.
	Libp2p Library = "libp2p"
)

// session is what both libraries have in common. It is a [net.Listener] of the streams that the other end opens.
type session interface {
	net.Listener
	Open() (net.Conn, error)
}

type libp2pSession struct{ *libp2p.Session }

func (s libp2pSession) Open() (net.Conn, error) { return s.Session.Open(context.Background()) }

// client begins a session as Gitaly's clients configure it: gRPC has keep-alive pings of its own, so yamux's are off.
func (l Library) client(conn net.Conn) (session, error) {
	if l == Libp2p {
		session, err := libp2p.Client(conn, libp2pConfig(), nil)
		return libp2pSession{session}, err
	}
	return hashicorp.Client(conn, hashicorpConfig())
}

// server begins a session as Gitaly configures it.
func (l Library) server(conn net.Conn) (session, error) {
	if l == Libp2p {
		session, err := libp2p.Server(conn, libp2pConfig(), nil)
		return libp2pSession{session}, err
	}
	config := hashicorpConfig()
	config.MaxStreamWindowSize = serverWindowBytes
	return hashicorp.Server(conn, config)
}

func hashicorpConfig() *hashicorp.Config {
	config := hashicorp.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard
	return config
}

func libp2pConfig() *libp2p.Config {
	config := libp2p.DefaultConfig()
	config.EnableKeepAlive = false
	config.MaxStreamWindowSize = serverWindowBytes
	config.LogOutput = io.Discard
	return config
}
