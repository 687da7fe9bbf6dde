// Package runner is what this node runs: it keeps the node's attempts, from the
// leader's wish to the leader's acknowledgement of how each ended.
//
// It doesn't decide what runs where (package sched), how a commit gets here
// (package checkout) or what a container is (package executor): the latter two
// it drives through Checkout and Executor.
//
// Invariants: an attempt is in the ledger, on the disk, before anything of it
// is started, and is never started twice; its outcome is there before a leader
// hears of it, and stays until one has answered; of one job at most one attempt
// is alive here; one that has been superseded reports nothing.
//
// Start reading at reconcile (reconcile.go), which decides, then at the loop
// around it (loop.go) and at an attempt's life (attempt.go).
package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// Runner is a node's runner.
type Runner struct {
	cfg    Config
	log    *slog.Logger
	ledger *ledger
	out    *outbox
	lease  *lease
	plans  chan struct{} // a token for each plan at work
	keep   *keeper
	disk   *diskWatch
	images *imagesHere

	kick     chan struct{} // holds a token when there may be something to decide
	resync   chan struct{} // holds a token when the stream should be dialled again
	freed    chan struct{} // holds a token when an attempt has ended
	litter   chan struct{} // holds a token when one may have left something behind
	answered sync.Once
	greeted  chan struct{} // closed with the first wish of a leader
	fatal    chan error    // holds the ledger's failure

	mu       sync.Mutex
	attempts map[fsm.AttemptRef]*attempt // alive or ended
	graves   map[fsm.JobID][]grave       // closed or dropped
	buried   []fsm.JobID                 // of graves, oldest first; maxClosed at most
	wanted   *link.Wanted                // nil until a stream has said
	works    map[fsm.AttemptRef]*link.Work
	quitting bool

	approvalKey []byte // no job's: the keys to manual steps are made of it

	live sync.WaitGroup // attempts' goroutines
}

type grave struct {
	ref   fsm.AttemptRef
	state state
}

// New opens the ledger in cfg.Dir and takes over what it says. It starts
// nothing.
func New(cfg Config) (*Runner, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "attempts"), 0o700); err != nil {
		return nil, fmt.Errorf("make attempts folder: %w", err)
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	approvalKey, err := readApprovalKey(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l, lost, err := openLedger(filepath.Join(cfg.Dir, "ledger"))
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		cfg.Log.Warn("ledger had a torn end, cut off", "bytes", lost)
	}
	r := &Runner{
		cfg: cfg, log: cfg.Log, ledger: l, approvalKey: approvalKey, out: newOutbox(), lease: newLease(cfg.Lease),
		plans: make(chan struct{}, cfg.Plans), kick: make(chan struct{}, 1), resync: make(chan struct{}, 1),
		greeted: make(chan struct{}), fatal: make(chan error, 1),
		keep: &keeper{
			node: cfg.Node.ID, blobs: cfg.Blobs, caches: cfg.Caches, limits: cfg.Keep, log: cfg.Log, now: time.Now,
			link: cfg.Node.Executor == "docker", // which mounts them read-only
		},
		freed: make(chan struct{}, 1), litter: make(chan struct{}, 1),
		images:   newImagesHere(cfg.Executor, cfg.Log.Warn),
		attempts: map[fsm.AttemptRef]*attempt{}, graves: map[fsm.JobID][]grave{}, works: map[fsm.AttemptRef]*link.Work{},
	}
	r.disk = &diskWatch{
		marks: cfg.Marks, places: r.places, measure: measure, running: r.Running, log: cfg.Log,
		rest: map[string]time.Time{}, scant: map[string]bool{}, full: map[string]bool{},
	}
	if s, ok := cfg.Executor.(stocker); ok {
		r.disk.stock = s.Stock
	}
	for _, c := range l.book.closed {
		s := closed
		if c.Dropped {
			s = dropped
		}
		r.bury(c.Ref, s)
	}
	for _, e := range l.book.entries() {
		a := newAttempt(e.Ref, e.Work)
		// What the machine had not written when it went down is not known: of a job that it
		// took before, nobody can say that it never began.
		a.begun = e.Started || e.Boot != "" && e.Boot != cfg.Boot
		r.attempts[e.Ref] = a
		if e.Outcome != nil {
			a.state = ended
			close(a.done)
			o := fit(*e.Outcome) // an earlier version's may be too large
			r.out.put(link.Report{Ref: e.Ref, Outcome: &o})
		}
	}
	return r, nil
}

// Run runs what the leader wants until ctx ends, or the disk fails. Then it
// stops what it has started, or leaves it to be adopted, and tells the leader if
// it can within Farewell. It returns when nothing of its own is running.
func (r *Runner) Run(ctx context.Context) error {
	r.lease.begin(time.Now())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Streams and attempts outlive ctx by the farewell.
	outer, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	var streams errgroup.Group
	streams.Go(func() error { return r.cfg.Leader.Run(outer, r.session) })

	if err := removeTree(r.trash(), r.trash()+".old"); err != nil { // a crash has left it
		r.log.Warn("remove leftovers", "error", err)
	}
	r.adopt(outer)
	r.handOver()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.loop(gctx, outer) })
	g.Go(func() error { return r.watchLease(gctx) })
	g.Go(func() error { return r.sweep(gctx) })
	g.Go(func() error { return r.tidy(gctx) })
	g.Go(func() error { return r.diskLoop(gctx) })
	g.Go(func() error {
		select {
		case <-gctx.Done():
			return nil
		case err := <-r.fatal:
			return err
		}
	})
	err := g.Wait()
	r.quit(outer)
	r.live.Wait()
	endStreams()
	return errors.Join(err, streams.Wait(), r.ledger.close())
}

// handOver has the logs copied and sealed that earlier starts of this node have left.
func (r *Runner) handOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	over := func(ref fsm.AttemptRef) {
		path := filepath.Join(r.dir(ref), logFile)
		if _, err := os.Stat(path); err == nil {
			r.cfg.Copies.Over(ref, path)
		}
	}
	for ref, a := range r.attempts {
		if !a.state.alive() {
			over(ref)
		}
	}
	for _, graves := range r.graves {
		for _, g := range graves {
			over(g.ref)
		}
	}
}

// Running counts the attempts of which something may run.
func (r *Runner) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, a := range r.attempts {
		if a.state.alive() {
			n++
		}
	}
	return n
}

// quit ends what runs, as LeaveRunning says, and waits until the leader knows,
// for Farewell at most.
func (r *Runner) quit(ctx context.Context) {
	r.mu.Lock()
	r.quitting = true
	for _, a := range r.attempts {
		switch {
		case !a.state.alive():
		case r.cfg.LeaveRunning: // what has not started does so at the next start
			a.leave(errLeft)
		default:
			a.halt(leaving, r.cfg.Farewell/2)
		}
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Farewell)
	defer cancel()
	for ctx.Err() == nil && (r.stopping() || !r.out.empty()) {
		select {
		case <-ctx.Done():
		case <-r.kick:
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.state.alive() {
			a.leave(errLeft) // its end is found out at the next start
		}
	}
}

// stopping reports whether something is still to end before this process does.
func (r *Runner) stopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.state.alive() && a.life.Err() == nil {
			return true
		}
	}
	return false
}

// sweep removes what is nobody's: at the start, when a leader has said what this
// node should run, when an engine has surely ended what it was asked for before, when
// an attempt may have left something, and now and then. The
// ledger alone tells what is somebody's: nothing is started that is not in it.
func (r *Runner) sweep(ctx context.Context) error {
	greeted := r.greeted
	late := time.NewTimer(sweepLate)
	defer late.Stop()
	for ctx.Err() == nil {
		next := sweepEvery
		if err := r.cfg.Executor.Sweep(ctx, r.claims); err != nil && ctx.Err() == nil {
			r.log.Warn("sweep leftovers, trying again", "error", err)
			next = sweepAgain
		}
		wait := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-wait.C:
		case <-late.C:
		case <-greeted:
			greeted = nil // once
		case <-r.litter:
		}
		wait.Stop()
	}
	return nil
}

const (
	sweepEvery = time.Hour
	sweepLate  = 30 * time.Second // after the start
	sweepAgain = 10 * time.Second // after a failure
)

// claims reports whether what runs for an attempt is to go on running.
func (r *Runner) claims(ref fsm.AttemptRef) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempts[ref]
	return a != nil && a.state.alive()
}

// nudge wakes the loop.
func (r *Runner) nudge() { token(r.kick) }

// token puts one into a channel that holds one at most.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fail ends Run: the disk no longer says what this node has done.
func (r *Runner) fail(err error) {
	select {
	case r.fatal <- err:
	default:
	}
}
