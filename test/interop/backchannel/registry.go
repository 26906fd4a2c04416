package backchannel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc/metadata"
)

// ErrNoSidechannel is what [Waiter.Wait] and [Waiter.Close] return when the server never opened the sidechannel.
var ErrNoSidechannel = errors.New("backchannel: the server opened no sidechannel")

// Registry knows which sidechannels a client is waiting for. One may serve many connections.
type Registry struct {
	mutex   sync.Mutex
	lastID  int64
	waiting map[int64]*Waiter
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{waiting: map[int64]*Waiter{}}
}

// Waiter is one expected sidechannel.
type Waiter struct {
	registry *Registry
	id       int64
	callback func(*Sidechannel) error
	done     chan struct{}
	err      error
}

// Register expects one sidechannel: callback runs once, in a goroutine of its own, when the server has opened it.
// The sidechannel is closed when callback returns.
func (r *Registry) Register(callback func(*Sidechannel) error) *Waiter {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.lastID++
	waiter := &Waiter{registry: r, id: r.lastID, callback: callback, done: make(chan struct{})}
	r.waiting[waiter.id] = waiter
	return waiter
}

// NewContext registers callback and returns a context for the call that names the sidechannel in its metadata.
func (r *Registry) NewContext(
	ctx context.Context, callback func(*Sidechannel) error,
) (context.Context, *Waiter) {
	waiter := r.Register(callback)
	return metadata.AppendToOutgoingContext(ctx, SidechannelIDKey, strconv.FormatInt(waiter.id, 10)), waiter
}

// ID is what the call's metadata must name.
func (w *Waiter) ID() int64 { return w.id }

// Wait blocks until the callback has returned and gives its error, or ctx's.
func (w *Waiter) Wait(ctx context.Context) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops expecting the sidechannel. Call it when the RPC is over: it returns [ErrNoSidechannel] if the server
// never opened one; else it waits for the callback and gives its error.
func (w *Waiter) Close() error {
	if w.registry.take(w.id) != nil {
		w.err = ErrNoSidechannel
		close(w.done)
	}
	<-w.done
	return w.err
}

func (r *Registry) take(id int64) *Waiter {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	waiter := r.waiting[id]
	delete(r.waiting, id)
	return waiter
}

// receive takes over a yamux stream whose magic word has been read: reads the id, answers "ok", runs the callback.
func (r *Registry) receive(conn net.Conn) error {
	var id [8]byte
	if _, err := io.ReadFull(conn, id[:]); err != nil {
		return fmt.Errorf("sidechannel id: %w", err)
	}
	waiter := r.take(int64(binary.BigEndian.Uint64(id[:])))
	if waiter == nil {
		return fmt.Errorf("sidechannel %d: nobody waits for it", binary.BigEndian.Uint64(id[:]))
	}
	if _, err := io.WriteString(conn, sidechannelReady); err != nil {
		waiter.err = err
		close(waiter.done)
		return err
	}
	go func() {
		defer close(waiter.done)
		sidechannel := newSidechannel(conn)
		waiter.err = errors.Join(waiter.callback(sidechannel), sidechannel.Close())
	}()
	return nil
}
