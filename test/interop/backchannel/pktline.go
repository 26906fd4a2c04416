package backchannel

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	// pktHeaderBytes is the length prefix of a pkt-line: four hexadecimal digits that count themselves.
	pktHeaderBytes = 4

	// maxPktBytes is the largest pkt-line, header included (gitprotocol-common: LARGE_PACKET_MAX).
	maxPktBytes = 65520

	// flushPkt ends a direction.
	flushPkt = "0000"
)

// ErrPktHeader is returned for a length that pkt-line does not know.
var ErrPktHeader = errors.New("backchannel: not a pkt-line header")

// PktWriter frames what is written to it as pkt-lines of at most 65520 bytes.
type PktWriter struct {
	sink      io.Writer
	buffer    []byte
	wireBytes int64
}

// NewPktWriter writes to sink, each pkt-line with one call.
func NewPktWriter(sink io.Writer) *PktWriter {
	return &PktWriter{sink: sink}
}

// Write sends p in as many pkt-lines as it needs, and none if p is empty. It returns the bytes of p that were sent.
func (w *PktWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		payload := p[sent:min(len(p), sent+maxPktBytes-pktHeaderBytes)]
		w.buffer = fmt.Appendf(w.buffer[:0], "%04x", len(payload)+pktHeaderBytes)
		w.buffer = append(w.buffer, payload...)
		n, err := w.sink.Write(w.buffer)
		w.wireBytes += int64(n)
		if err != nil {
			return sent, err
		}
		sent += len(payload)
	}
	return sent, nil
}

// Flush sends the flush packet, after which the reader sees the end.
func (w *PktWriter) Flush() error {
	n, err := io.WriteString(w.sink, flushPkt)
	w.wireBytes += int64(n)
	return err
}

// PktReader gives the payload of pkt-lines, until a flush packet.
type PktReader struct {
	source  *bufio.Reader
	pending int
	ended   bool
	// wireBytes are those that were taken from source for what Read gave, not those that were read ahead.
	wireBytes int64
}

// NewPktReader reads from source, up to 64 KiB ahead.
func NewPktReader(source io.Reader) *PktReader {
	return &PktReader{source: bufio.NewReaderSize(source, 64*1024)}
}

// Read returns payload bytes, [io.EOF] after a flush packet, and [io.ErrUnexpectedEOF] where the source ends without
// one: a stream that was cut never looks complete.
func (r *PktReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.pending == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.readHeader(); err != nil {
			return 0, err
		}
	}
	n, err := r.source.Read(p[:min(len(p), r.pending)])
	r.pending -= n
	r.wireBytes += int64(n)
	return n, cut(err)
}

func (r *PktReader) readHeader() error {
	var digits [pktHeaderBytes]byte
	n, err := io.ReadFull(r.source, digits[:])
	r.wireBytes += int64(n)
	if err != nil {
		return cut(err)
	}
	var value [pktHeaderBytes / 2]byte
	if _, err := hex.Decode(value[:], digits[:]); err != nil {
		return fmt.Errorf("%w: %q", ErrPktHeader, digits)
	}
	length := int(value[0])<<8 | int(value[1])
	switch {
	case length == 0:
		r.ended = true
	case length < pktHeaderBytes || length > maxPktBytes:
		return fmt.Errorf("%w: %q", ErrPktHeader, digits)
	default:
		r.pending = length - pktHeaderBytes
	}
	return nil
}

// cut says of an end that it came where there should have been more.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
