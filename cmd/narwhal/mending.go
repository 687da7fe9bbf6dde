package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/mend"
)

// stores are this node's stores of blobs, by what is in them.
func (n *node) stores() map[fsm.BlobKind]blobs {
	id := fsm.NodeID(n.cluster.Identity().NodeID)
	return map[fsm.BlobKind]blobs{
		fsm.BlobLog: n.sealed.blobs, fsm.BlobArchive: n.blobs,
		fsm.BlobBundle: {Store: n.bundles.Store, self: id, peers: ranked(n.cluster), at: api.NodePath, nodes: n.nodes},
	}
}

// giver gives blobs to other nodes, no faster than its limit.
type giver struct {
	stores map[fsm.BlobKind]blobs
	limit  *rate.Limiter // bytes a second, over all
}

// giveChunk bounds what is read at a time, and so the limiter's burst, in bytes.
const giveChunk = 256 << 10

func newGiver(stores map[fsm.BlobKind]blobs, bytesPerSecond int64) giver {
	return giver{stores, rate.NewLimiter(rate.Limit(bytesPerSecond), giveChunk)}
}

// Give implements api.Giver.
func (g giver) Give(ctx context.Context, kind fsm.BlobKind, digest string, to fsm.NodeID) error {
	store, ok := g.stores[kind.Store()]
	if !ok {
		return fmt.Errorf("%w: there are none of kind %q", api.ErrNoBlob, kind)
	}
	if err := store.Verify(ctx, digest, -1); errors.Is(err, blob.ErrCorrupt) {
		return fmt.Errorf("%w: %w", api.ErrNoBlob, err) // what is wrong is not spread
	}
	f, size, err := store.Open(digest)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if to.IsBucket() {
		return store.depositTo(ctx, to, digest, slowly{ctx, f, g.limit})
	}
	return store.send(ctx, to, digest, slowly{ctx, f, g.limit}, size)
}

// slowly is a reader that keeps to a limit.
type slowly struct {
	ctx   context.Context
	r     io.Reader
	limit *rate.Limiter
}

func (s slowly) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), giveChunk)])
	if waitErr := s.limit.WaitN(s.ctx, n); waitErr != nil {
		return n, waitErr
	}
	return n, err
}

// menderMembers is mend's view of the cluster.
type menderMembers struct{ *cluster.Cluster }

func (m menderMembers) Watch() (alive, left []fsm.NodeID, changed <-chan struct{}) {
	snap, changed := m.Cluster.Watch()
	for _, n := range snap.Members {
		switch n.State {
		case cluster.Alive:
			alive = append(alive, fsm.NodeID(n.ID))
		case cluster.Left:
			left = append(left, fsm.NodeID(n.ID))
		}
	}
	return alive, left, changed
}

// mender makes copies again that were lost; it is the leader's.
func (n *node) mender() *mend.Mender {
	log := n.log.With("part", "mend")
	var bucket func() (fsm.NodeID, []fsm.NodeID)
	if n.bucket != nil {
		bucket = func() (fsm.NodeID, []fsm.NodeID) { return n.bucket.Holder(), n.bucket.uploaders(n.cluster) }
	}
	return mend.New(mend.Config{
		Bucket: bucket,
		State:  n.replica.State, Members: menderMembers{n.cluster}, Ask: n.nodes.askToGive, Patience: n.cfg.repairAfter, Log: log,
		Propose: func(ctx context.Context, commands []fsm.Command) error {
			_, err := n.proposer.ProposeAll(ctx, commands)
			return err
		},
	})
}

// giveWithin is how long a node has for one copy.
const giveWithin = 30 * time.Minute

// askToGive has a node give a copy to another one.
func (n nodes) askToGive(ctx context.Context, t mend.Task) error {
	ctx, cancel := context.WithTimeout(ctx, giveWithin)
	defer cancel()
	body, err := json.Marshal(api.GiveCall{Kind: t.Ref.Kind, Digest: t.Blob.Digest, To: t.To})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(t.From)+api.GivePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := n.patient.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return mend.ErrNotHeld
	default:
		return fmt.Errorf("it answered %s", resp.Status)
	}
}

// scrubber reads this node's blobs now and then, and brings those again whose bytes have
// changed: disks lie.
type scrubber struct {
	stores map[fsm.BlobKind]blobs
	desk   leaderDesk
	every  time.Duration // between two passes
	limit  int64         // bytes a second
	log    *slog.Logger
}

func (s *scrubber) run(ctx context.Context) error {
	pause := time.NewTicker(s.every)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		for kind, store := range s.stores {
			s.pass(ctx, kind, store)
		}
	}
}

func (s *scrubber) pass(ctx context.Context, kind fsm.BlobKind, store blobs) {
	list, err := store.List()
	if err != nil {
		s.log.Warn("look for blobs to verify", "kind", kind, "error", err)
		return
	}
	limit := rate.NewLimiter(rate.Limit(s.limit), giveChunk)
	for _, b := range list {
		for left := b.Size; left > 0 && ctx.Err() == nil; left -= giveChunk { // paid for ahead
			if limit.WaitN(ctx, int(min(left, giveChunk))) != nil {
				return
			}
		}
		if err := store.Verify(ctx, b.Digest, -1); errors.Is(err, blob.ErrCorrupt) {
			s.log.Warn("a blob's bytes have changed on this disk, fetching it again", "kind", kind, "digest", b.Digest)
			if err := s.heal(ctx, kind, store, b.Digest); err != nil {
				s.log.Warn("fetch a blob again", "kind", kind, "digest", b.Digest, "error", err)
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// heal brings a blob from another holder.
func (s *scrubber) heal(ctx context.Context, kind fsm.BlobKind, store blobs, digest string) error {
	b, err := s.desk.holders(ctx, kind, digest)
	if err != nil {
		return err
	}
	b.Holders = slices.DeleteFunc(b.Holders, func(id fsm.NodeID) bool { return id == store.self })
	_, err = store.Path(ctx, b)
	return err
}
