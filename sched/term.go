package sched

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// term is one leadership's memory: the leases, and the stream of each node.
type term struct {
	done    chan struct{}  // closed when the leadership has ended
	streams sync.WaitGroup // of every Serve and what it has started

	mu        sync.Mutex
	leases    *Leases
	calendar  *Calendar // this and the next are the loop's alone
	stopwatch *Stopwatch
	sessions  map[fsm.NodeID]*session // the newest of each node
	load      map[fsm.NodeID]link.Load
	changed   chan struct{} // closed and replaced when Plan may answer otherwise
	closed    bool
}

func newTerm(l *Leases) *term {
	return &term{
		done: make(chan struct{}), leases: l, calendar: NewCalendar(), stopwatch: NewStopwatch(), changed: make(chan struct{}),
		sessions: make(map[fsm.NodeID]*session), load: make(map[fsm.NodeID]link.Load),
	}
}

// close ends the term: every session is told, and has ended when it returns. It
// does not wait for any node: each Serve returns at once, and its return frees
// what is blocked on its stream.
func (t *term) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	close(t.done)
	t.streams.Wait()
}

// enter counts a session in, unless the term has ended.
func (t *term) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.streams.Add(1)
	return true
}

// arrive makes s its node's session, unless ctx, which is the session's, has
// ended meanwhile. One that the node had before is ended: it has dialled anew.
func (t *term) arrive(ctx context.Context, s *session, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	if old := t.sessions[s.node.ID]; old != nil {
		old.end(errReplaced)
	}
	t.sessions[s.node.ID] = s
	t.leases.Hello(s.hello, now)
	t.wake()
	return true
}

// depart notes the end of a session, unless a newer one has taken its place.
func (t *term) depart(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions[s.node.ID] != s {
		return
	}
	delete(t.sessions, s.node.ID)
	delete(t.load, s.node.ID)
	t.leases.Gone(s.node.ID)
	t.wake()
}

func (t *term) beat(id fsm.NodeID, b *link.Beat, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leases.Beat(id, b, now)
	t.load[id] = b.Load
	t.wake() // a suspect node may be back
}

func (t *term) loads() map[fsm.NodeID]link.Load {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.load)
}

// woken is closed at the next change of who is there.
func (t *term) woken() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// wake is called with mu held.
func (t *term) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}
