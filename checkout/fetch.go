package checkout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/codepr/narwhal/fsm"
)

// want is a caller that waits for a commit.
type want struct {
	commit fsm.Commit
	done   chan struct{} // closed once err says how it ended
	err    error
}

func (w *want) end(err error) {
	w.err = err
	close(w.done)
}

func (w *want) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// ensure returns once the commit is in the mirror. Whoever gets the slot
// fetches for all who wait; the others find their commit there afterwards.
func (m *mirror) ensure(ctx context.Context, c fsm.Commit) error {
	if ok, err := m.has(ctx, c.SHA); ok || err != nil {
		return err
	}
	w := &want{commit: c, done: make(chan struct{})}
	m.waitMu.Lock()
	m.waiting = append(m.waiting, w)
	m.waitMu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		m.leave(w)
		return ctx.Err()
	case m.slot <- struct{}{}:
	}
	defer func() { <-m.slot }()
	if w.ended() {
		return w.err
	}
	m.waitMu.Lock()
	batch := m.waiting
	m.waiting = nil
	m.waitMu.Unlock()
	m.bring(ctx, batch)
	if err := ctx.Err(); err != nil {
		m.handOn(batch, w)
		return err
	}
	return w.err
}

func (m *mirror) leave(w *want) {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	for i, other := range m.waiting {
		if other == w {
			m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
			return
		}
	}
}

// handOn gives what a canceled caller did not finish back to those who wait:
// one of them takes the slot next.
func (m *mirror) handOn(batch []*want, except *want) {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	for _, w := range batch {
		if w != except && !w.ended() {
			m.waiting = append(m.waiting, w)
		}
	}
}

// bring ends every want of the batch, unless ctx ends before.
func (m *mirror) bring(ctx context.Context, batch []*want) {
	err := m.make()
	if err == nil {
		batch, err = m.missing(ctx, batch)
	}
	if err == nil && len(batch) > 0 {
		if m.remote.url == "" {
			m.importAll(ctx, batch)
		} else {
			m.fetchAll(ctx, batch)
		}
		m.forgetRefs()
		m.tidy(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	for _, w := range batch {
		if !w.ended() {
			w.end(err)
		}
	}
}

// missing ends the wants whose commit is there, and gives the others.
func (m *mirror) missing(ctx context.Context, batch []*want) (rest []*want, err error) {
	for _, w := range batch {
		if w.ended() {
			continue
		}
		ok, err := m.has(ctx, w.commit.SHA)
		switch {
		case errors.Is(err, ErrInvalid):
			w.end(err)
		case err != nil:
			return batch, err
		case ok:
			w.end(nil)
		default:
			rest = append(rest, w)
		}
	}
	return rest, nil
}

// fetchAll fetches branches and tags, which brings what was pushed, however
// many wait for it. What is still missing (pull requests, branches that moved
// on) is asked for by SHA, and from servers that refuse that by ref.
func (m *mirror) fetchAll(ctx context.Context, batch []*want) {
	first := m.fetch(ctx, "--prune", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	batch, err := m.missing(ctx, batch)
	if err != nil || len(batch) == 0 {
		m.endAll(ctx, batch, err)
		return
	}
	if first != nil && !isOfSomeRef(first) {
		m.endAll(ctx, batch, fmt.Errorf("fetch %s: %w", m.Repo, first))
		return
	}
	for len(batch) > 0 && ctx.Err() == nil {
		bySHA := m.fetch(ctx, wantedSHAs(batch)...)
		if batch, err = m.missing(ctx, batch); err != nil || len(batch) == 0 {
			m.endAll(ctx, batch, err)
			return
		}
		// One commit that the server does not have or give makes it refuse all:
		// that one is tried by its ref and ends here, the others go on.
		if w := named(batch, bySHA); w != nil {
			m.fetchRef(ctx, w, bySHA)
		} else if len(batch) == 1 || errors.Is(bySHA, ErrTransport) || errors.Is(bySHA, ErrAuth) {
			m.fetchRef(ctx, batch[0], bySHA)
		} else {
			m.fetchEach(ctx, batch)
		}
		if batch, err = m.missing(ctx, batch); err != nil {
			m.endAll(ctx, batch, err)
			return
		}
	}
}

// fetchEach is for when there is no telling whose commit it was that failed.
func (m *mirror) fetchEach(ctx context.Context, batch []*want) {
	for _, w := range batch {
		err := m.fetch(ctx, wantedSHAs([]*want{w})...)
		m.fetchRef(ctx, w, err)
	}
}

// isOfSomeRef tells a fetch that failed for some ref, or for the objects behind
// it, from one that reached nothing: other refs' commits can still be had.
func isOfSomeRef(err error) bool {
	var f *failure
	return errors.As(err, &f) && (errors.Is(f.kind, ErrCorrupt) || strings.Contains(f.said, "cannot lock ref") ||
		strings.Contains(f.said, "unable to update local ref") || strings.Contains(f.said, "-> refs/"))
}

func wantedSHAs(batch []*want) (specs []string) {
	seen := map[string]bool{}
	for _, w := range batch {
		if sha := w.commit.SHA; !seen[sha] {
			seen[sha] = true
			specs = append(specs, "+"+sha+":refs/narwhal/"+sha)
		}
	}
	return specs
}

// named finds the want whose SHA the failure speaks of, or nil.
func named(batch []*want, err error) *want {
	if err != nil {
		for _, w := range batch {
			if strings.Contains(err.Error(), w.commit.SHA) {
				return w
			}
		}
	}
	return nil
}

// fetchRef tries for one commit by its ref, where it is still missing, and ends
// its want. Before is how asking for it by SHA ended.
func (m *mirror) fetchRef(ctx context.Context, w *want, before error) {
	c := w.commit
	err := before
	if err != nil && !errors.Is(err, ErrCorrupt) && c.Ref != "" && c.Branch() == "" && c.Tag() == "" {
		err = m.fetch(ctx, "+"+c.Ref+":refs/narwhal/"+c.SHA)
	}
	if ctx.Err() != nil {
		return
	}
	ok, lookup := m.has(ctx, c.SHA)
	switch {
	case lookup != nil:
		w.end(lookup)
	case ok:
		w.end(nil)
	case err == nil || errors.Is(err, ErrNotFound):
		w.end(fmt.Errorf("commit %s of %s (%s): the server does not have it, or no longer gives it out: %w",
			short(c.SHA), m.Repo, c.Ref, ErrNotFound))
	default:
		w.end(fmt.Errorf("fetch %s of %s: %w", short(c.SHA), m.Repo, err))
	}
}

func (m *mirror) endAll(ctx context.Context, batch []*want, err error) {
	if ctx.Err() != nil {
		return
	}
	for _, w := range batch {
		if !w.ended() {
			w.end(err)
		}
	}
}

// fetch is one run of git fetch. Whatever it left when it was killed is
// cleared: the caller holds the slot.
func (m *mirror) fetch(ctx context.Context, rest ...string) error {
	args := []string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance",
		"--no-recurse-submodules", "--no-show-forced-updates"}
	if rest[0] == "--prune" {
		args, rest = append(args, "--prune"), rest[1:]
	}
	args = append(append(args, "--end-of-options", m.remote.url), rest...)
	err := m.git.run(ctx, call{gitDir: m.dir, remote: &m.remote}, args...)
	if err != nil {
		m.log.Debug("fetch ended badly", "repo", m.Repo, "error", err)
		return errors.Join(err, m.clearLeftovers())
	}
	return nil
}

// maxPacks is how many packs, and with them new refs, are borne: looking an
// object up tries each.
const maxPacks = 50

// tidy folds many small packs into few. Nothing is dropped. It is only about
// speed, so a failure is a line in the log.
func (m *mirror) tidy(ctx context.Context) {
	entries, err := os.ReadDir(filepath.Join(m.dir, "objects", "pack"))
	if err != nil || len(entries) < 2*maxPacks || ctx.Err() != nil {
		return
	}
	m.stopReader() // it would hold the old packs open
	c := call{gitDir: m.dir}
	err = m.git.run(ctx, c, "repack", "-d", "-q", "--geometric=2", "--no-write-bitmap-index")
	if err == nil {
		err = m.git.run(ctx, c, "pack-refs", "--all", "--prune")
	}
	if err != nil {
		m.log.Warn("tidy mirror", "repo", m.Repo, "error", errors.Join(err, m.clearLeftovers()))
	}
}
