package checkout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// keptFor is how long a mirror is safe after its last use: whoever used it may
	// be about to make a workspace of it.
	keptFor = time.Hour
	// notedEvery is how old a use may be that is not written down again.
	notedEvery = 5 * time.Minute
)

// Idle is a mirror that may go.
type Idle struct {
	Repo  string
	Bytes int64     // of its files
	Used  time.Time // some minutes behind at most
}

// Idle lists the mirrors that may go, the least recently used first: those that
// were not used for an hour, that nobody fetches into, and that aren't among lent,
// the ObjectsDirs that workspaces in use borrow from.
func (s *Mirrors) Idle(lent []string) []Idle {
	var list []Idle
	for _, i := range s.idle(lent) {
		list = append(list, i.Idle)
	}
	return list
}

// Evict removes whole mirrors that may go, the least recently used first, until
// bytes are free or none is left. Ensure makes one again when it is wanted.
func (s *Mirrors) Evict(bytes int64, lent []string) (freed int64, err error) {
	for _, i := range s.idle(lent) {
		if freed >= bytes {
			break
		}
		gone, moveErr := s.moveAway(i.mirror, lent)
		if gone == "" {
			err = errors.Join(err, moveErr)
			continue
		}
		s.log.Info("remove a mirror that was not used for long", "repo", i.Repo, "used", i.Used, "bytes", i.Bytes)
		if rmErr := os.RemoveAll(gone); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove mirror of %s: %w", i.Repo, rmErr))
			continue
		}
		freed += i.Bytes
	}
	return freed, err
}

type idleMirror struct {
	Idle
	*mirror
}

func (s *Mirrors) idle(lent []string) []idleMirror {
	var list []idleMirror
	s.mu.Lock()
	for _, m := range s.mirrors {
		if used, ok := m.idleSince(lent); ok {
			list = append(list, idleMirror{Idle{Repo: m.Repo, Used: used}, m})
		}
	}
	s.mu.Unlock()
	for i := range list {
		list[i].Bytes = treeSize(list[i].dir)
	}
	slices.SortFunc(list, func(a, b idleMirror) int { return a.Used.Compare(b.Used) })
	return list
}

// idleSince reports whether the mirror may go, and its last use, under Mirrors.mu.
func (m *mirror) idleSince(lent []string) (time.Time, bool) {
	info, err := os.Stat(filepath.Join(m.dir, labelFile))
	if err != nil || slices.Contains(lent, m.objects()) || len(m.slot) > 0 {
		return time.Time{}, false
	}
	used := info.ModTime()
	if m.used.After(used) {
		used = m.used
	}
	return used, time.Since(used) > keptFor
}

// moveAway takes a mirror out of its place, unless it is used by now, to where the
// next Open would throw it away too. It is one step for whoever wants the mirror at
// this moment: they come before, and it stays, or they find none.
func (s *Mirrors) moveAway(m *mirror, lent []string) (gone string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := m.idleSince(lent); !ok {
		return "", nil
	}
	select {
	case m.slot <- struct{}{}:
		defer func() { <-m.slot }()
	default: // someone fetches
		return "", nil
	}
	if gone, err = os.MkdirTemp(s.cfg.Dir, ".new-"); err == nil {
		err = os.Rename(m.dir, filepath.Join(gone, "mirror"))
	}
	if err != nil {
		if gone != "" {
			err = errors.Join(err, os.Remove(gone))
		}
		return "", fmt.Errorf("remove mirror of %s: %w", m.Repo, err)
	}
	m.made, m.noted = false, time.Time{}
	m.forgetRefs()
	m.stopReader() // it would go on answering from files that have gone
	return gone, nil
}

// noteUse keeps the mirror for an hour, also over a restart: by its label's time.
// Under Mirrors.mu.
func (m *mirror) noteUse() {
	m.used = time.Now()
	if m.used.Sub(m.noted) < notedEvery {
		return
	}
	if os.Chtimes(filepath.Join(m.dir, labelFile), m.used, m.used) == nil { // else there is none yet, and its label will be new
		m.noted = m.used
	}
}

func (m *mirror) objects() string { return filepath.Join(m.dir, "objects") }

func treeSize(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is changing: this is an estimate
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
