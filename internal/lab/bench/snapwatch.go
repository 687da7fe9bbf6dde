package main

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/codepr/narwhal/internal/lab"
)

// taken are the snapshots that nodes take, as their folders show: one that is being
// written has a name that ends with .tmp.
type taken struct {
	mu   sync.Mutex
	done []span
	open map[string]time.Time // path, and when it was first there
}

type span struct{ from, to time.Time }

// watch looks until ctx ends, every 5 ms.
func (t *taken) watch(ctx context.Context, l *lab.Lab) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		t.look(l)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (t *taken) look(l *lab.Lab) {
	now := time.Now()
	there := make(map[string]bool)
	for _, n := range l.Nodes {
		found, err := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*.tmp"))
		if err != nil {
			return // the pattern is a constant
		}
		for _, path := range found {
			there[path] = true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for path := range there {
		if _, ok := t.open[path]; !ok {
			t.open[path] = now
		}
	}
	for path, from := range t.open {
		if !there[path] {
			t.done = append(t.done, span{from, now})
			delete(t.open, path)
		}
	}
}

// during reports whether a snapshot was being taken between the two times, or had just
// been.
func (t *taken) during(from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, began := range t.open {
		if began.Before(to) {
			return true
		}
	}
	for _, s := range t.done {
		if s.from.Before(to) && s.to.Add(settled).After(from) {
			return true
		}
	}
	return false
}

func (t *taken) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.done)
}
