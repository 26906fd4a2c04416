package backchannel

import (
	"net"
)

// Sidechannel is one yamux stream for the bulk data of one call. Both directions are pkt-lines; each ends with a
// flush packet, because closing a yamux stream closes it for good. Read and Write may run at the same time, each in
// one goroutine.
type Sidechannel struct {
	conn   net.Conn
	reader *PktReader
	writer *PktWriter
}

func newSidechannel(conn net.Conn) *Sidechannel {
	return &Sidechannel{conn: conn, reader: NewPktReader(conn), writer: NewPktWriter(conn)}
}

// Read gives the peer's payload; [io.EOF] once it has called CloseWrite, [io.ErrUnexpectedEOF] if the stream ended
// before.
func (s *Sidechannel) Read(p []byte) (int, error) { return s.reader.Read(p) }

// Write sends p as pkt-lines.
func (s *Sidechannel) Write(p []byte) (int, error) { return s.writer.Write(p) }

// CloseWrite tells the peer that no more comes; reading goes on.
func (s *Sidechannel) CloseWrite() error { return s.writer.Flush() }

// WireBytes are the bytes of pkt-lines so far, headers and flush packets included.
func (s *Sidechannel) WireBytes() (received, sent int64) {
	return s.reader.wireBytes, s.writer.wireBytes
}

// Close ends the yamux stream. What was written before still arrives.
func (s *Sidechannel) Close() error { return s.conn.Close() }
