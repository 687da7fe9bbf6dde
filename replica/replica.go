// Package replica is this node's copy of the replicated state: it feeds the log
// to fsm.Apply, publishes each new state, wakes who waits for one, and carries
// commands to the log. It does not own the log (cluster does) nor what a command
// means (fsm does).
//
// Invariant: a published state never changes, and the states that State returns
// never go back in index, but for a restored snapshot.
//
// Start reading at Replica.
package replica

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/codepr/narwhal/fsm"
)

// Replica holds the newest state. Its methods may be called from any goroutine.
type Replica struct {
	state atomic.Pointer[fsm.State]

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a state is published
}

// New is a replica before the first entry.
func New() *Replica {
	r := &Replica{changed: make(chan struct{})}
	r.state.Store(fsm.New())
	return r
}

// State is the newest state.
func (r *Replica) State() *fsm.State { return r.state.Load() }

// Watch gives the newest state and a channel that is closed when there is a
// newer one.
func (r *Replica) Watch() (*fsm.State, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Load(), r.changed
}

// Wait gives the newest state as soon as it holds the entry at index.
func (r *Replica) Wait(ctx context.Context, index uint64) (*fsm.State, error) {
	for {
		s, changed := r.Watch()
		if s.Index() >= index {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for index %d, at %d: %w", index, s.Index(), ctx.Err())
		}
	}
}

// Apply applies one log entry and answers with its []fsm.Result. An error means
// that this version can't read the entry: the node must stop.
func (r *Replica) Apply(index, term uint64, entry []byte) (any, error) {
	commands, err := fsm.DecodeEntry(entry)
	if err != nil {
		return nil, fmt.Errorf("log entry %d: %w", index, err)
	}
	next, results := fsm.Apply(r.State(), index, term, commands)
	r.publish(next)
	return results, nil
}

// Snapshot takes the state as it is now; the function it returns writes it.
func (r *Replica) Snapshot() func(io.Writer) error {
	s := r.State()
	return func(w io.Writer) error {
		_, err := s.WriteTo(w)
		return err
	}
}

// Restore replaces the state by a snapshot's.
func (r *Replica) Restore(from io.Reader) error {
	s, err := fsm.Restore(from)
	if err != nil {
		return err
	}
	r.publish(s)
	return nil
}

func (r *Replica) publish(s *fsm.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Store(s)
	close(r.changed)
	r.changed = make(chan struct{})
}
