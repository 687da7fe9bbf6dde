package blob

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Pin keeps a blob from eviction until the function that it gives is called, which
// may be done more than once. It needn't be here yet.
func (s *Store) Pin(digest string) (unpin func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned[digest]++
	done := false
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if done {
			return
		}
		done = true
		if s.pinned[digest]--; s.pinned[digest] == 0 {
			delete(s.pinned, digest)
		}
	}
}

// Free drops the least recently used blobs until that many bytes are free, or none
// is left that may go, and gives the bytes that it freed. It is for a disk that
// fills up.
func (s *Store) Free(bytes int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.list()
	if err != nil {
		return 0, err
	}
	freed, err := s.drop(list, bytes, "")
	return freed, err
}

// Expire drops the blobs that were not used since before, but for pinned ones.
func (s *Store) Expire(before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.list()
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	old := slices.IndexFunc(list, func(b Info) bool { return !b.UsedAt.Before(before) })
	if old < 0 {
		old = len(list)
	}
	_, err = s.drop(list[:old], math.MaxInt64, "")
	return err
}

// evict brings the store back within its budget, now that keep has come with so many
// bytes; what it can't remove it logs. The files are looked at only where that may be
// necessary.
func (s *Store) evict(keep string, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes += atLeastBlock(bytes); s.bytes <= s.cfg.Budget {
		return
	}
	list, err := s.list()
	if err != nil {
		s.log.Warn("list blobs", "error", err)
		return
	}
	s.bytes = sum(list)
	freed, err := s.drop(list, s.bytes-s.cfg.Budget, keep)
	if s.bytes -= freed; err != nil {
		s.log.Warn("remove old blobs", "error", err)
	}
}

func sum(list []Info) (total int64) {
	for _, b := range list {
		total += atLeastBlock(b.Size)
	}
	return total
}

// atLeastBlock is what a file of that many bytes takes on the disk, roughly: small
// ones are not free.
func atLeastBlock(bytes int64) int64 { return max(bytes, 4<<10) }

// drop removes blobs of the list from its front until they have had that many
// bytes. Under mu.
func (s *Store) drop(list []Info, bytes int64, keep string) (freed int64, err error) {
	for _, b := range list {
		if freed >= bytes || time.Since(b.UsedAt) < s.cfg.Floor+s.noted() {
			break
		}
		if _, waits := s.waiting[b.Digest]; waits || b.Digest == keep || s.pinned[b.Digest] > 0 {
			continue
		}
		if rmErr := os.Remove(s.path(b.Digest)); rmErr != nil {
			err = errors.Join(err, rmErr)
			continue
		}
		freed += b.Size
	}
	return freed, err
}

func (s *Store) list() ([]Info, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, e := range entries {
		digest, ok := s.digestOf(filepath.Base(e.Name()))
		info, err := e.Info()
		if err != nil || !ok {
			continue
		}
		list = append(list, Info{digest, info.Size(), info.ModTime()})
	}
	slices.SortFunc(list, func(a, b Info) int { return a.UsedAt.Compare(b.UsedAt) })
	return list, nil
}
