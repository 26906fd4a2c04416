package backchannel

import (
	"io"

	"github.com/hashicorp/yamux"
)

const (
	// Magic is what a backchannel client sends first. A gRPC client sends "PRI * HTTP/2.0…" instead.
	Magic = "backchannel"

	// SidechannelMagic is what Gitaly writes first on a yamux stream that is a sidechannel.
	SidechannelMagic = "sidechannel"

	// SidechannelIDKey is the gRPC metadata that names the sidechannel of a call, as a decimal number.
	SidechannelIDKey = "gitaly-sidechannel-id"

	// magicBytes is the length of both magic words: the reader takes exactly so many and then knows.
	magicBytes = len(Magic)

	// sidechannelReady is the client's answer to the sidechannel's id.
	sidechannelReady = "ok"

	// serverWindowBytes is the receive window that Gitaly's side grants on each stream; the client's side keeps
	// yamux's default of 256 KiB.
	serverWindowBytes = 16 * 1024 * 1024
)

// clientConfig is yamux as Gitaly configures it: gRPC has keep-alive pings of its own, so yamux's are off.
func clientConfig() *yamux.Config {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard
	return config
}

func serverConfig() *yamux.Config {
	config := clientConfig()
	config.MaxStreamWindowSize = serverWindowBytes
	return config
}
