package backchannel

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

	// serverWindowBytes is the receive window that Gitaly's side grants on each stream, with libp2p's library at most; a
	// client with hashicorp's keeps the default of 256 KiB.
	serverWindowBytes = 16 * 1024 * 1024
)
