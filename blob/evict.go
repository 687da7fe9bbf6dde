package blob

import (
	"errors"
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

// evict brings the store back within its budget; what it can't remove it logs.
func (s *Store) evict(keep string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.list()
	if err != nil {
		s.log.Warn("list blobs", "error", err)
		return
	}
	var total int64
	for _, b := range list {
		total += b.Size
	}
	if _, err := s.drop(list, total-s.cfg.Budget, keep); err != nil {
		s.log.Warn("remove old blobs", "error", err)
	}
}

// drop removes blobs of the list from its front until they have had that many
// bytes. Under mu.
func (s *Store) drop(list []Info, bytes int64, keep string) (freed int64, err error) {
	for _, b := range list {
		if freed >= bytes || time.Since(b.UsedAt) < kept+noted {
			break
		}
		if b.Digest == keep || s.pinned[b.Digest] > 0 {
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
