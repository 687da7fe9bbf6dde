package blob

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// waitPrefix begins the names of the empty files that say which blobs wait.
const waitPrefix = "wait-"

func (s *Store) waitPath(digest string) string { return filepath.Join(s.cfg.Dir, waitPrefix+digest) }

// Wait keeps a blob from eviction until Settle, over restarts too: this node's is the
// only copy until it has been put where it belongs.
func (s *Store) Wait(digest string) error {
	if !digestPattern.MatchString(digest) {
		return fmt.Errorf("blob %q: %w", digest, ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.waiting[digest]; ok {
		return nil
	}
	f, err := os.OpenFile(s.waitPath(digest), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), syncDir(s.cfg.Dir))
	}
	if err != nil {
		return fmt.Errorf("note that a blob waits: %w", err)
	}
	s.waiting[digest] = time.Now()
	return nil
}

// Settle is Wait's end. For one that does not wait it does nothing.
func (s *Store) Settle(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.waiting[digest]; !ok {
		return nil
	}
	if err := os.Remove(s.waitPath(digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note that a blob waits no more: %w", err)
	}
	delete(s.waiting, digest)
	return nil
}

// Waiting gives the blobs that wait, and since when.
func (s *Store) Waiting() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.waiting)
}

// readWaiting finds what waited when the process ended.
func (s *Store) readWaiting() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest, ok := strings.CutPrefix(e.Name(), waitPrefix)
		if !ok || !digestPattern.MatchString(digest) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.waiting[digest] = info.ModTime()
	}
	return nil
}
