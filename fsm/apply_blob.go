package fsm

import (
	"fmt"
	"slices"
)

func (tx *txn) rehomeBlob(c *RehomeBlob) error {
	if c.Digest == "" || len(c.Holders) == 0 {
		return fmt.Errorf("%w: a blob wants a name and somebody who holds it", ErrInvalid)
	}
	switch c.Ref.Kind {
	case BlobCache:
		key := nameKey(c.Ref.Repo, c.Ref.Scope, c.Ref.Key)
		if old, ok := tx.caches.Get(key); ok && old.Blob.Digest == c.Digest {
			next := *old
			next.Blob.Holders = slices.Clone(c.Holders)
			tx.caches.Insert(key, &next)
		}
	case BlobBundle:
		if old, ok := tx.builds.Get(c.Ref.Job.Build.key()); ok && old.Commit.Bundle == c.Digest {
			next := *old
			next.Commit.Holders = slices.Clone(c.Holders)
			tx.putBuild(&next)
		}
	case BlobLog, BlobArchive:
		tx.rehomeAttempt(c)
	default:
		return fmt.Errorf("%w: there is no blob of kind %q", ErrInvalid, c.Ref.Kind)
	}
	return nil
}

func (tx *txn) rehomeAttempt(c *RehomeBlob) {
	j, ok := tx.jobs.Get(c.Ref.Job.key())
	if !ok || c.Ref.N < 1 || c.Ref.N > len(j.Attempts) {
		return
	}
	next := *j
	next.Attempts = slices.Clone(j.Attempts)
	a := &next.Attempts[c.Ref.N-1]
	switch {
	case c.Ref.Kind == BlobLog && a.Log != nil && a.Log.Digest == c.Digest:
		log := *a.Log
		log.Holders = slices.Clone(c.Holders)
		a.Log = &log
	case c.Ref.Kind == BlobArchive && a.Artifacts != nil && a.Artifacts.Archive.Digest == c.Digest:
		artifacts := *a.Artifacts
		artifacts.Archive.Holders = slices.Clone(c.Holders)
		a.Artifacts = &artifacts
	default:
		return
	}
	tx.putJob(&next)
}
