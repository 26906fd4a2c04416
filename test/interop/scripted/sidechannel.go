package scripted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"gitaly-tls-proxy/interop/backchannel"
)

// writeBytes is one write to a sidechannel.
const writeBytes = 32 * 1024

// SidechannelAccount is one end's account of a sidechannel: bytes of pkt-lines, headers and flush packets included.
type SidechannelAccount struct {
	ID       string `json:"-"`
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
}

// sidechannelLedger collects them.
type sidechannelLedger struct {
	mutex    sync.Mutex
	accounts []SidechannelAccount
}

func (l *sidechannelLedger) add(id string, sidechannel *backchannel.Sidechannel) {
	received, sent := sidechannel.WireBytes()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.accounts = append(l.accounts, SidechannelAccount{ID: id, Sent: sent, Received: received})
}

func (l *sidechannelLedger) all() []SidechannelAccount {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return append([]SidechannelAccount{}, l.accounts...)
}

// serve is the server's end, of the call that is served; it leaves the sidechannel to be closed.
func (s *Sidechannel) serve(
	ctx context.Context, id string, ledger *sidechannelLedger,
) (*backchannel.Sidechannel, error) {
	sidechannel, err := backchannel.OpenSidechannel(ctx)
	if err != nil {
		return nil, err
	}
	defer ledger.add(id, sidechannel)
	if s.Cut {
		// All that comes is read first: what is on its way when the stream is closed nobody would have counted.
		err = errors.Join(read(sidechannel, s.Up, io.EOF), write(sidechannel, s.Down))
	} else {
		err = bothWays(sidechannel, s.Down, s.Up)
	}
	if err != nil {
		return nil, errors.Join(err, sidechannel.Close())
	}
	return sidechannel, nil
}

// take is the client's end.
func (s *Sidechannel) take(sidechannel *backchannel.Sidechannel, id string, ledger *sidechannelLedger) error {
	defer ledger.add(id, sidechannel)
	if s.Cut {
		return errors.Join(
			write(sidechannel, s.Up),
			sidechannel.CloseWrite(),
			read(sidechannel, s.Down, io.ErrUnexpectedEOF),
		)
	}
	return bothWays(sidechannel, s.Up, s.Down)
}

func bothWays(sidechannel *backchannel.Sidechannel, sent, received int) error {
	written := make(chan error, 1)
	go func() { written <- errors.Join(write(sidechannel, sent), sidechannel.CloseWrite()) }()
	return errors.Join(read(sidechannel, received, io.EOF), <-written)
}

func write(sink io.Writer, count int) error {
	for count > 0 {
		n, err := sink.Write(content(min(count, writeBytes)))
		count -= n
		if err != nil {
			return err
		}
	}
	return nil
}

// read takes exactly count bytes and then the end that is wanted.
func read(source io.Reader, count int, want error) error {
	if _, err := io.CopyN(io.Discard, source, int64(count)); err != nil {
		return fmt.Errorf("of %d bytes: %w", count, err)
	}
	if n, err := source.Read(make([]byte, 1)); n > 0 || !errors.Is(err, want) {
		return fmt.Errorf("after %d bytes: %d more, %v", count, n, err)
	}
	return nil
}
