package scripted

import (
	"context"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Traffic is what one end has sent or received in messages of one call. Bytes are those of messages as they are on the
// wire, compressed where they are, without prefixes.
type Traffic struct {
	Messages   int   `json:"messages"`
	Bytes      int64 `json:"bytes"`
	Compressed int   `json:"compressed"`
}

// Account is one end's account of one call.
type Account struct {
	ID       string  `json:"-"`
	Method   string  `json:"-"`
	Code     string  `json:"code"`
	Sent     Traffic `json:"sent"`
	Received Traffic `json:"received"`
	// Interrupted says at the server how a call ended that no status of its handler ended; Code says then only what
	// grpc-go made of it, which at a deadline depends on whose timer was first.
	Interrupted End `json:"-"`
}

// Ledger counts the calls of one end as grpc-go reports them to it (package stats). Put it into a server or a client
// connection as its stats handler.
type Ledger struct {
	mutex    sync.Mutex
	accounts []*Account
	open     int
	// settled is closed, and replaced, whenever no call is open any more.
	settled chan struct{}
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{settled: make(chan struct{})} }

type accountKey struct{}

// TagRPC implements [stats.Handler]: a call begins.
func (l *Ledger) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	ids := outgoing.Get(IDKey)
	if len(ids) == 0 {
		ids = metadata.ValueFromIncomingContext(ctx, IDKey)
	}
	account := &Account{Method: info.FullMethodName}
	if len(ids) > 0 {
		account.ID = ids[0]
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.accounts = append(l.accounts, account)
	l.open++
	return context.WithValue(ctx, accountKey{}, account)
}

// HandleRPC implements [stats.Handler].
func (l *Ledger) HandleRPC(ctx context.Context, event stats.RPCStats) {
	account, ok := ctx.Value(accountKey{}).(*Account)
	if !ok {
		return
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	switch event := event.(type) {
	case *stats.OutPayload:
		account.Sent.add(event.Length, event.CompressedLength)
	case *stats.InPayload:
		account.Received.add(event.Length, event.CompressedLength)
	case *stats.End:
		account.Code = status.Code(event.Error).String()
		l.open--
		if l.open == 0 {
			close(l.settled)
			l.settled = make(chan struct{})
		}
	}
}

func (t *Traffic) add(length, compressedLength int) {
	t.Messages++
	t.Bytes += int64(compressedLength)
	if compressedLength != length {
		t.Compressed++
	}
}

// TagConn implements [stats.Handler].
func (*Ledger) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (*Ledger) HandleConn(context.Context, stats.ConnStats) {}

// interrupted notes how the call that is served ends, if not by a status of its handler.
func (l *Ledger) interrupted(ctx context.Context, end End) {
	account, ok := ctx.Value(accountKey{}).(*Account)
	if !ok {
		return
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	account.Interrupted = end
}

// Settled waits until no call is open and gives the account of each.
func (l *Ledger) Settled(ctx context.Context) ([]Account, error) {
	for {
		l.mutex.Lock()
		settled := l.settled
		if l.open == 0 {
			defer l.mutex.Unlock()
			accounts := make([]Account, len(l.accounts))
			for i, account := range l.accounts {
				accounts[i] = *account
			}
			return accounts, nil
		}
		l.mutex.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
