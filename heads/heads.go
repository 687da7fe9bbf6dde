// Package heads finds what was pushed while nobody was told: a new leader compares the
// branches and tags of the remotes that the state knows with what was last seen of them,
// and has the difference built. It is the leader's.
//
// It does not ask remotes itself (Config.Look does), and polls none: each is looked at
// once when a leadership begins, and once when the first push to it is told of, so that
// what is there already is known and never taken for new.
//
// Invariant: what it adds has the key that the webhook's commit has, so that a commit is
// built once, whoever tells of it and how often.
//
// Start reading at Decide (decide.go), then Watcher.Run.
package heads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

// Config is what a Watcher works with.
type Config struct {
	// Watch gives the newest state, and a channel that is closed when there is a newer one.
	Watch func() (*fsm.State, <-chan struct{})
	// Look asks a remote for its branches and tags.
	Look func(ctx context.Context, cloneURL string) ([]Head, error)
	// Propose enters commands; what was refused is in the results.
	Propose func(ctx context.Context, commands []fsm.Command) ([]fsm.Result, error)
	// Check says what is wrong with a commit from outside.
	Check func(fsm.Commit) error
	// Age is how long ago the newest push that was told of may be: a repository whose
	// webhook is gone is to be left alone. Default 30 days.
	Age time.Duration
	// Pause is how long a new leader waits: what was kept of webhooks comes in before,
	// and says more of a commit. Default 5s.
	Pause time.Duration
	// Retry is when a remote that could not be asked is asked again at first, and twice
	// as late each time, five times; default 10s.
	Retry time.Duration
	Log   *slog.Logger
}

const (
	atATime = 4 // remotes that are asked
	// maxTries and maxDoublings have a remote that does not answer asked for about a day,
	// at last every five minutes: where the power failed, it may come back long after us.
	maxTries     = 275
	maxDoublings = 5
	// rest is the least time between two looks at the state.
	rest = time.Second
	// lotBytes bounds one command, well below what a log entry takes.
	lotBytes = 64 << 10
)

// Watcher is the leader's: see the package.
type Watcher struct {
	cfg Config

	mu     sync.Mutex
	missed map[string]bool // repositories to compare, since nobody may have been listening
	tries  map[string]try  // by repository and URL
}

type try struct {
	n   int
	due time.Time
}

// New makes a watcher; it remembers nothing of what another leader has seen.
func New(cfg Config) *Watcher {
	cfg.Pause, cfg.Retry, cfg.Age = cmp.Or(cfg.Pause, 5*time.Second), cmp.Or(cfg.Retry, 10*time.Second), cmp.Or(cfg.Age, 30*24*time.Hour)
	return &Watcher{cfg: cfg, missed: make(map[string]bool), tries: make(map[string]try)}
}

// Run looks until ctx, which is the leadership's, ends.
func (w *Watcher) Run(ctx context.Context) error {
	if !sleep(ctx, w.cfg.Pause) {
		return nil
	}
	s, _ := w.cfg.Watch()
	for r := range s.Remotes() {
		if time.Since(r.PushedAt) < w.cfg.Age {
			w.missed[r.Repo] = true
		}
	}
	asked := len(w.missed)
	for first := true; ; first = false {
		s, changed := w.cfg.Watch()
		w.lookAll(ctx, s)
		if first && asked > 0 && ctx.Err() == nil {
			w.cfg.Log.Info("remotes were asked for what was pushed while nobody listened", "remotes", asked, "not_answered", len(w.missed))
		}
		again := time.NewTimer(w.next(time.Now()))
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		if !sleep(ctx, rest) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lookAll looks at the remotes whose turn it is.
func (w *Watcher) lookAll(ctx context.Context, s *fsm.State) {
	var looking errgroup.Group
	looking.SetLimit(atATime)
	for r := range s.Remotes() {
		missed, ok := w.turn(r, time.Now())
		if !ok {
			continue
		}
		looking.Go(func() error {
			w.note(r, missed, w.look(ctx, s, r, missed))
			return nil
		})
	}
	_ = looking.Wait() // each has told of its own
}

// turn says whether a remote is to be looked at now, and whether it was missed.
func (w *Watcher) turn(r *fsm.Remote, now time.Time) (missed, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	missed = w.missed[r.Repo]
	t := w.tries[nameOf(r)]
	return missed, (missed || !r.Looked) && t.n < maxTries && !now.Before(t.due)
}

func nameOf(r *fsm.Remote) string { return r.Repo + "\x00" + r.CloneURL }

// next is when a remote is to be asked again.
func (w *Watcher) next(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := time.Hour // nothing is due
	for _, t := range w.tries {
		if t.n < maxTries {
			next = min(next, max(t.due.Sub(now), 0))
		}
	}
	return next
}

// note keeps how a look ended.
func (w *Watcher) note(r *fsm.Remote, missed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := nameOf(r)
	if err == nil {
		w.tries[name] = try{n: maxTries} // this leader asks no more
		if missed {
			delete(w.missed, r.Repo)
		}
		return
	}
	t := w.tries[name]
	t.due = time.Now().Add(w.cfg.Retry << min(t.n, maxDoublings))
	t.n++
	w.tries[name] = t
	log := w.cfg.Log.With("repo", r.Repo, "error", err)
	switch {
	case errors.Is(err, context.Canceled): // this node leads no more
	case t.n == maxTries:
		log.Warn("a remote's heads could not be seen: what was pushed there while nobody listened is not built until another leader looks")
	default:
		log.Warn("a remote's heads could not be seen yet", "retry_in", time.Until(t.due).Round(time.Second))
	}
}

// look compares a remote with the state, and enters what differs.
func (w *Watcher) look(ctx context.Context, s *fsm.State, r *fsm.Remote, missed bool) error {
	heads, err := w.cfg.Look(ctx, r.CloneURL)
	if err != nil {
		return err
	}
	known := make(map[string]string)
	for h := range s.Heads(r.Repo) {
		known[h.Ref] = h.SHA
	}
	f := Decide(r, known, heads, missed)
	log := w.cfg.Log.With("repo", r.Repo)
	if f.Empty {
		log.Warn("a remote has no branches and tags any more: its schedules are left as they are", "known", len(known))
		return nil
	}
	if f.Left > 0 {
		log.Warn("a remote has more new branches and tags than are built at once: the rest is built when it is pushed to", "left", f.Left)
	}
	if !r.Looked {
		log.Info("a remote's branches and tags are known from here on", "heads", len(heads))
	}
	if err := w.build(ctx, f.Build, log); err != nil {
		return err
	}
	return w.enter(ctx, r, f.Seen)
}

// build adds what was missed.
func (w *Watcher) build(ctx context.Context, missed []fsm.Commit, log *slog.Logger) error {
	var commands []fsm.Command
	for _, c := range missed {
		if err := w.cfg.Check(c); err != nil {
			log.Warn("a push that nobody was told of is not built", "ref", c.Ref, "sha", c.SHA, "error", err)
			continue
		}
		commands = append(commands, fsm.Command{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c, Missed: true}})
	}
	if len(commands) == 0 {
		return nil
	}
	results, err := w.cfg.Propose(ctx, commands)
	if err != nil {
		return fmt.Errorf("add what was missed: %w", err)
	}
	for i, result := range results {
		c := &commands[i].AddBuild.Commit
		if result.Err != nil {
			return fmt.Errorf("add %s at %s: %w", c.Ref, c.SHA, result.Err)
		}
		log.Info("a push that nobody was told of", "ref", c.Ref, "sha", c.SHA, "build", result.Build, "known", result.Known)
	}
	return nil
}

// enter notes what was seen, in lots that a log entry can take. The last one says that
// there was a look.
func (w *Watcher) enter(ctx context.Context, r *fsm.Remote, seen []fsm.SeenHead) error {
	if len(seen) == 0 && r.Looked {
		return nil
	}
	var commands []fsm.Command
	for done := false; !done; {
		n, size := 0, 0
		for n < len(seen) && size < lotBytes {
			size += len(seen[n].Ref) + len(seen[n].Was) + len(seen[n].SHA) + 32
			n++
		}
		done = n == len(seen)
		commands = append(commands, fsm.Command{SeeHeads: &fsm.SeeHeads{Repo: r.Repo, CloneURL: r.CloneURL, Heads: seen[:n], Done: done}})
		seen = seen[n:]
	}
	// One after the other: that there was a look is not to be known before what it showed.
	for _, c := range commands {
		results, err := w.cfg.Propose(ctx, []fsm.Command{c})
		if err == nil {
			err = results[0].Err
		}
		if err != nil {
			return fmt.Errorf("note what a remote has: %w", err)
		}
	}
	return nil
}
