package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
)

// minder tells the others how the bucket stands for this node, and what waits here to
// be put there; and forgets of that what another node has put there, or nobody needs.
// The putting is the leader's word (package mend).
type minder struct {
	road   *bucketRoad
	stores []blobs
	load   *load
	desk   leaderDesk
	log    *slog.Logger
}

func (n *node) minder() *minder {
	return &minder{n.bucket, []blobs{n.blobs, n.sealed.blobs}, n.load, leaderDesk{leaders{n.cluster}, n.nodes}, n.log.With("part", "bucket")}
}

const (
	// tellEvery is how far behind gossip may be on how much waits.
	tellEvery = 5 * time.Second
	// askEvery is the time between two looks at whether what waits still does.
	askEvery = 15 * time.Second
	// mostWaiting is the most that gossip counts.
	mostWaiting = 1000
	// unnamedFor is how long a blob waits that the state does not name: what it is of may
	// not have been entered yet.
	unnamedFor = 24 * time.Hour
)

func (m *minder) run(ctx context.Context) error {
	tell, ask := time.NewTicker(tellEvery), time.NewTicker(askEvery)
	defer tell.Stop()
	defer ask.Stop()
	for {
		changed := m.road.Changed()
		m.tell()
		select {
		case <-changed:
		case <-tell.C:
		case <-ask.C:
			m.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *minder) tell() {
	waiting := 0
	for _, s := range m.stores {
		waiting += len(s.Waiting())
	}
	m.load.change(func(l *cluster.Load) {
		l.Bucket, l.BucketDown, l.Waiting = m.road.ID(), m.road.Health().Err != nil, min(waiting, mostWaiting)
	})
}

// look asks the leader of what waits here, while the bucket is up.
func (m *minder) look(ctx context.Context) {
	if m.road.Health().Err != nil {
		return
	}
	for _, s := range m.stores {
		for digest, since := range s.Waiting() {
			b, err := m.desk.holders(ctx, s.kind, digest)
			switch {
			case errors.Is(err, errNotThere) && time.Since(since) > unnamedFor, err == nil && slices.Contains(b.Holders, m.road.Holder()):
				if err := s.Settle(digest); err != nil {
					m.log.Warn("a blob waits for the bucket no more", "digest", digest, "error", err)
				}
			case errors.Is(err, errNotThere), err == nil:
			default:
				m.log.Debug("ask who holds a blob that waits", "digest", digest, "error", err)
				return // the leader can't be asked now
			}
		}
	}
}

// holders asks the leader who holds a blob: errNotThere where the state does not name it.
func (d leaderDesk) holders(ctx context.Context, kind fsm.BlobKind, digest string) (b fsm.Blob, err error) {
	leader, ok := d.leaders.Leader()
	if !ok {
		return b, errors.New("no node leads that knows who else has it")
	}
	body, err := d.nodes.read(ctx, leader, api.HoldersPath(string(kind), digest), "holders")
	if err != nil {
		return b, err
	}
	err = json.NewDecoder(body).Decode(&b)
	return b, errors.Join(err, body.Close())
}
