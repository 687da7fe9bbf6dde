package mend

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

// ErrNotHeld is returned by Ask when the node that is asked does not have the blob any
// more: it was evicted there.
var ErrNotHeld = errors.New("the node does not have it any more")

// Config is what a Mender works with.
type Config struct {
	State   func() *fsm.State
	Members Members
	// Ask has a node give a blob to another one.
	Ask func(ctx context.Context, t Task) error
	// Bucket is where blobs belong, and who can put them there now; nil where they stay on
	// nodes.
	Bucket func() (bucket fsm.NodeID, uploaders []fsm.NodeID)
	// Propose enters who holds blobs by now.
	Propose func(ctx context.Context, commands []fsm.Command) error
	// Patience is how long a holder may be away before its copies are made again;
	// default 10 min.
	Patience time.Duration
	// Every is the time between two looks at the state, besides those when a member
	// comes or goes; default 1 min.
	Every time.Duration
	Log   *slog.Logger
}

// Members is who is here.
type Members interface {
	// Watch lists the nodes that are there, those that have left for good, and a channel
	// that is closed with the next change.
	Watch() (alive, left []fsm.NodeID, changed <-chan struct{})
}

// Mender is the leader's: see the package.
type Mender struct {
	cfg   Config
	since map[fsm.NodeID]time.Time // when a node was first seen away
	gone  map[Lack]bool            // what holders have evicted: they are not asked for it again
}

// New makes a mender; it remembers nothing of what another leader has seen.
func New(cfg Config) *Mender {
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Minute)
	cfg.Every = cmp.Or(cfg.Every, time.Minute)
	return &Mender{cfg: cfg, since: make(map[fsm.NodeID]time.Time), gone: make(map[Lack]bool)}
}

// atATime bounds the copies that are being made at a time. How fast each is, the nodes
// themselves bound.
const atATime = 4

// Run mends until ctx, which is the leadership's, ends.
func (m *Mender) Run(ctx context.Context) error {
	for {
		alive, left, changed := m.cfg.Members.Watch()
		s := m.cfg.State()
		m.note(absent(s, alive), left, time.Now())
		see := Sight{Alive: alive, Away: m.since, Lacking: m.gone}
		if m.cfg.Bucket != nil {
			see.Bucket, see.Uploaders = m.cfg.Bucket()
		}
		if lacking := len(m.gone); m.round(ctx, s, see) && len(m.gone) > lacking && ctx.Err() == nil {
			continue // another holder may have it
		}
		timer := time.NewTimer(m.next(time.Now()))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		if timer.Stop(); ctx.Err() != nil {
			return nil
		}
	}
}

// next is how long nothing new is due: no holder's patience runs out.
func (m *Mender) next(now time.Time) time.Duration {
	next := m.cfg.Every
	for _, at := range m.since {
		if left := at.Add(m.cfg.Patience).Sub(now); left > 0 {
			next = min(next, left)
		}
	}
	return next
}

// note keeps since when each holder has been away. What this leader has never seen it
// may see soon: after a restart of all, gossip knows of one node at first.
func (m *Mender) note(absent map[fsm.NodeID]bool, left []fsm.NodeID, now time.Time) {
	was := m.since
	m.since = make(map[fsm.NodeID]time.Time, len(absent))
	for id := range absent {
		if slices.Contains(left, id) {
			continue
		}
		m.since[id] = now
		if at, ok := was[id]; ok {
			m.since[id] = at
		}
	}
}

// round makes the copies that are missing, and enters each lot of them together; false
// where they could not be entered.
func (m *Mender) round(ctx context.Context, s *fsm.State, see Sight) bool {
	tasks := Plan(s, see, m.cfg.Patience, time.Now())
	for len(tasks) > 0 && ctx.Err() == nil {
		lot := tasks[:min(len(tasks), 64)]
		tasks = tasks[len(lot):]
		if done := m.make(ctx, lot); len(done) > 0 {
			if err := m.cfg.Propose(ctx, done); err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("enter copies that were made again", "blobs", len(done), "error", err)
				return false
			}
		}
	}
	return true
}

func (m *Mender) make(ctx context.Context, lot []Task) (done []fsm.Command) {
	errs := make([]error, len(lot))
	var g errgroup.Group
	g.SetLimit(atATime)
	for i := range lot {
		g.Go(func() error {
			errs[i] = m.cfg.Ask(ctx, lot[i])
			return nil
		})
	}
	_ = g.Wait() // each has its own
	for i := range lot {
		t := &lot[i]
		switch {
		case errs[i] == nil:
			m.cfg.Log.Info("a copy was made", "kind", t.Ref.Kind, "digest", t.Blob.Digest, "from", t.From, "to", t.To)
			delete(m.gone, Lack{t.Ref, t.Blob.Digest, t.To})
			done = append(done, fsm.Command{RehomeBlob: &fsm.RehomeBlob{Ref: t.Ref, Digest: t.Blob.Digest, Holders: t.Holders()}})
		case errors.Is(errs[i], ErrNotHeld):
			m.gone[Lack{t.Ref, t.Blob.Digest, t.From}] = true
		case ctx.Err() == nil:
			m.cfg.Log.Warn("make a copy, trying later", "kind", t.Ref.Kind, "digest", t.Blob.Digest, "from", t.From, "to", t.To, "error", errs[i])
		}
	}
	return done
}
