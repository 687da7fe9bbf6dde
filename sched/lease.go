package sched

import (
	"maps"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// Leases is the leader's knowledge of which nodes are there. A node's heartbeats
// keep its lease; without them it is suspect, and gets no new job, then lost,
// and its attempts run elsewhere. Leases live in the leader's memory and start
// afresh with every leader: they are never in the log.
//
// It is pure: the time is an argument. It is not for concurrent use.
type Leases struct {
	suspect, lost time.Duration
	nodes         map[fsm.NodeID]*lease
}

type lease struct {
	heard       time.Time // of the last hello or beat, or when the leader began to wait for one
	incarnation uint64
	connected   bool
	have        map[string]bool
	images      map[string]bool
	full        bool
}

// NewLeases starts a lease for every node that the state places jobs on, counted
// from now: a new leader gives each the whole time to say hello.
func NewLeases(s *fsm.State, suspect, lost time.Duration, now time.Time) *Leases {
	l := &Leases{suspect: suspect, lost: lost, nodes: make(map[fsm.NodeID]*lease)}
	for n := range s.Nodes() {
		l.nodes[n.ID] = &lease{heard: now, incarnation: n.Incarnation}
	}
	return l
}

// Hello starts a node's lease: it has a stream.
func (l *Leases) Hello(h *link.Hello, now time.Time) {
	l.nodes[h.Node.ID] = &lease{
		heard: now, incarnation: h.Node.Incarnation, connected: true,
		have: set(h.Have), images: set(h.Images), full: h.DiskFull,
	}
}

// Beat keeps a node's lease.
func (l *Leases) Beat(id fsm.NodeID, b *link.Beat, now time.Time) {
	n, ok := l.nodes[id]
	if !ok {
		return
	}
	n.heard = now
	n.full = b.Load.DiskFull
	if b.Have != nil {
		n.have = set(b.Have)
	}
	if b.Images != nil {
		n.images = set(b.Images)
	}
}

// Gone notes that a node's stream has ended. Its lease runs on: it may dial
// again.
func (l *Leases) Gone(id fsm.NodeID) {
	if n, ok := l.nodes[id]; ok {
		n.connected = false
	}
}

// Fleet is who may get jobs now. What it returns is the caller's.
func (l *Leases) Fleet(now time.Time) Fleet {
	f := make(Fleet, len(l.nodes))
	for id, n := range l.nodes {
		f[id] = Presence{
			Incarnation: n.incarnation, Have: n.have, Images: n.images, Full: n.full,
			Connected: n.connected && now.Sub(n.heard) < l.suspect,
		}
	}
	return f
}

// Lost lists the attempts whose node's lease has run out.
func (l *Leases) Lost(s *fsm.State, now time.Time) []fsm.LoseAttempt {
	var out []fsm.LoseAttempt
	for _, id := range slices.Sorted(maps.Keys(l.nodes)) {
		silent := now.Sub(l.nodes[id].heard)
		if silent < l.lost {
			continue
		}
		for j := range s.Placed(id) {
			a, _ := j.Current()
			out = append(out, fsm.LoseAttempt{
				Ref: j.Ref(a), Message: "no heartbeat from its node for " + silent.Round(time.Second).String(),
			})
		}
	}
	return out
}

// Next is the earliest time at which a node turns suspect or lost; zero where
// none will.
func (l *Leases) Next(now time.Time) time.Time {
	var next time.Time
	for _, n := range l.nodes {
		for _, limit := range []time.Duration{l.suspect, l.lost} {
			at := n.heard.Add(limit)
			if at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
