package bucket

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// SweepConfig is what a Sweeper works with.
type SweepConfig struct {
	Bucket *Bucket
	State  func() *fsm.State
	// Propose enters which caches have gone.
	Propose func(ctx context.Context, commands []fsm.Command) error
	// KeepLogs is how long sealed logs are kept after they were put there.
	KeepLogs time.Duration
	// Caches is how many bytes of caches are kept.
	Caches int64
	// Every is the time between two sweeps. Default: 1 h.
	Every time.Duration
	Log   *slog.Logger
}

// Sweeper removes from the bucket what nobody needs any more. It is the leader's.
type Sweeper struct{ cfg SweepConfig }

// NewSweeper makes a sweeper. It starts nothing.
func NewSweeper(cfg SweepConfig) *Sweeper {
	cfg.Every = cmp.Or(cfg.Every, time.Hour)
	return &Sweeper{cfg}
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.cfg.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if s.cfg.Bucket.Health().Err != nil {
			continue
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("sweep the bucket, trying later", "bucket", s.cfg.Bucket.String(), "error", err)
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context) error {
	if drop := LeastUsed(s.cfg.State(), s.cfg.Bucket.Holder(), s.cfg.Caches); len(drop) > 0 {
		if err := s.cfg.Propose(ctx, drop); err != nil {
			return err
		}
		s.cfg.Log.Info("the bucket's caches were above their size: the least recently used went", "caches", len(drop))
	}
	// The state is read before the list: what was entered in between is young.
	needs := NeedsOf(s.cfg.State(), time.Now(), s.cfg.KeepLogs)
	removed := 0
	for o, err := range s.cfg.Bucket.List(ctx) {
		if err != nil {
			return err
		}
		if !needs.spare(o) {
			continue
		}
		// It may have been put again since.
		at, err := s.cfg.Bucket.PutAt(ctx, o)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return err
		}
		if o.PutAt = at; !needs.spare(o) {
			continue
		}
		if err := s.cfg.Bucket.Delete(ctx, o); err != nil {
			return err
		}
		removed++
	}
	if removed > 0 {
		s.cfg.Log.Info("removed from the bucket what nobody needs any more", "bucket", s.cfg.Bucket.String(), "objects", removed)
	}
	return nil
}

// young is how old an object must be that the state does not need: the job that has put
// it there, or put it there again, may not have ended yet, or its node not have reached
// a leader.
const young = 24 * time.Hour

// Needs is what the state says of the blobs in a bucket at one time.
type Needs struct {
	now      time.Time
	keepLogs time.Duration
	needed   map[string]bool // by key: false where all that named it has expired
}

// NeedsOf reads the state.
func NeedsOf(s *fsm.State, now time.Time, keepLogs time.Duration) Needs {
	n := Needs{now, keepLogs, make(map[string]bool)}
	for ref, b := range s.Blobs() {
		if ref.Kind == fsm.BlobBundle || len(b.Digest) != 64 {
			continue
		}
		k := key(ref.Kind, b.Digest)
		n.needed[k] = n.needed[k] || !expired(s, ref, now)
	}
	return n
}

func expired(s *fsm.State, ref fsm.BlobRef, now time.Time) bool {
	j, ok := s.Job(ref.Job)
	if ref.Kind != fsm.BlobArchive || !ok || ref.N < 1 || ref.N > len(j.Attempts) || j.Attempts[ref.N-1].Artifacts == nil {
		return false
	}
	at := j.Attempts[ref.N-1].Artifacts.ExpireAt
	return !at.IsZero() && at.Before(now)
}

// spare tells whether an object may go.
func (n Needs) spare(o Object) bool {
	age := n.now.Sub(o.PutAt)
	needed, named := n.needed[o.Key]
	switch {
	case o.Kind == "":
		return false // not ours
	case o.Kind == fsm.BlobLog && named:
		return age > n.keepLogs
	}
	return !(named && needed) && age > young
}

// LeastUsed drops the caches in the bucket that were used least recently, until the
// rest has that many bytes at most.
func LeastUsed(s *fsm.State, bucket fsm.NodeID, bytes int64) (drop []fsm.Command) {
	var list []*fsm.CacheEntry
	total := int64(0)
	for e := range s.Caches() {
		if slices.Contains(e.Blob.Holders, bucket) {
			list = append(list, e)
			total += e.Blob.Size
		}
	}
	slices.SortStableFunc(list, func(a, b *fsm.CacheEntry) int { return a.UsedAt.Compare(b.UsedAt) })
	for _, e := range list {
		if total <= bytes {
			break
		}
		total -= e.Blob.Size
		drop = append(drop, fsm.Command{DropCache: &fsm.DropCache{Repo: e.Repo, Scope: e.Scope, Key: e.Key, Digest: e.Blob.Digest}})
	}
	return drop
}
