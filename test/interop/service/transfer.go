package service

import (
	"errors"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"gitaly-tls-proxy/interop/backchannel"
)

// messageWriter sends each write as one message of a stream.
type messageWriter struct {
	send func(any) error
}

func (w messageWriter) Write(p []byte) (int, error) {
	if err := w.send(wrapperspb.Bytes(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// messageReader gives the bytes of a stream's messages.
type messageReader struct {
	receive func(any) error
	rest    []byte
}

func (r *messageReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		message := &wrapperspb.BytesValue{}
		if err := r.receive(message); err != nil {
			return 0, err
		}
		r.rest = message.GetValue()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// exchanged is what one end knows of a sidechannel.
type exchanged struct {
	sent, received Digest
	receivedBytes  int64
}

// swap sends count bytes and reads until the peer ends, at the same time.
func swap(sidechannel *backchannel.Sidechannel, count int64) (exchanged, error) {
	var result exchanged
	sent := make(chan error, 1)
	go func() {
		digest, err := send(sidechannel, count)
		result.sent = digest
		if err == nil {
			err = sidechannel.CloseWrite()
		}
		sent <- err
	}()
	var err error
	result.received, result.receivedBytes, err = receive(sidechannel)
	return result, errors.Join(err, <-sent)
}
