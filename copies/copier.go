package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// Peers are the other nodes.
type Peers interface {
	// Alive lists those that gossip says are there.
	Alive() []fsm.NodeID
	// Tell brings chunks to a node, whose Shelf answers.
	Tell(ctx context.Context, node fsm.NodeID, chunks []Chunk) (Answer, error)
	// Give has a node keep a sealed log of this node's.
	Give(ctx context.Context, node fsm.NodeID, b fsm.Blob) error
}

// Register enters seals into the replicated state. The errors are Apply's answers;
// err is that of all.
type Register func(ctx context.Context, seals []fsm.SealLog) (answers []error, err error)

// Config is what a Copier works with.
type Config struct {
	Self     fsm.NodeID
	Peers    Peers
	Shelf    *Shelf
	Sealed   *blob.Store
	Register Register
	// Limit is how long a log may be in bytes, joblog.DefaultLimit where it is 0: what a
	// job writes beyond it, to the file itself, is cut when it ends, and is not sent.
	Limit int64
	// Bucket puts a sealed log of this node's where it needs no second node, and gives who
	// holds it then; nil where there is none. Where it fails a second node is given it.
	Bucket func(ctx context.Context, b fsm.Blob) (fsm.NodeID, error)
	// Alone keeps every log on its own node only.
	Alone bool
	// Every is how far a copy may be behind, besides the way to it; default 1 s.
	Every time.Duration
	// Grace is how long a log stays where it was written after it was sealed: who
	// has just looked the attempt up may still ask for it. Default 1 min.
	Grace time.Duration
	// Orphaned is how long a node must be away before another one seals its logs;
	// default 1 min.
	Orphaned time.Duration
	Log      *slog.Logger
}

// Copier copies and seals the logs that are written on this node, and seals those
// of nodes that have died.
type Copier struct {
	cfg    Config
	sealer *joblog.Sealer // the loop's alone
	wake   chan struct{}
	puts   sync.WaitGroup // uploads to the bucket, which run beside the loop
	slots  chan struct{}  // bound them

	mu   sync.Mutex
	logs map[fsm.AttemptRef]*entry
	lent map[fsm.AttemptRef]lent // sealed logs that others gave, until they have registered them
	away map[fsm.NodeID]time.Time
	step chan struct{} // closed and replaced after each round
}

// entry is a log that is not done with. What isn't under mu is the loop's alone.
type entry struct {
	ref   fsm.AttemptRef
	path  string
	owner fsm.NodeID // this node, or a dead one
	over  bool       // nothing more is written; under mu
	done  bool       // the state knows, or refused to; under mu

	peer  fsm.NodeID // who has the copy; empty for none
	tries int        // how many peers did not answer
	sent  int64      // what the peer has; -1 where it isn't known

	seal     *fsm.SealLog
	packed   []byte    // the sealed log, where it is small
	put      *put      // its way into the bucket; nil where it has not begun, or has failed
	noBucket bool      // it has failed
	given    bool      // the bucket or the peer has the sealed log, or nobody is there to have it
	doneAt   time.Time // zero until it is done
	wasKnown bool      // the peer has been told
}

// NewCopier makes a copier. It starts nothing.
func NewCopier(cfg Config) (*Copier, error) {
	cfg.Limit = cmp.Or(cfg.Limit, joblog.DefaultLimit) + joblog.Slack
	cfg.Every = cmp.Or(cfg.Every, time.Second)
	cfg.Grace = cmp.Or(cfg.Grace, time.Minute)
	cfg.Orphaned = cmp.Or(cfg.Orphaned, time.Minute)
	sealer, err := joblog.NewSealer()
	if err != nil {
		return nil, err
	}
	return &Copier{
		cfg: cfg, sealer: sealer, wake: make(chan struct{}, 1), logs: make(map[fsm.AttemptRef]*entry),
		slots: make(chan struct{}, uploads), lent: make(map[fsm.AttemptRef]lent), away: make(map[fsm.NodeID]time.Time), step: make(chan struct{}),
	}, nil
}

// Watch begins with the log of an attempt, which need not be there yet.
func (c *Copier) Watch(ref fsm.AttemptRef, path string) { c.watch(c.cfg.Self, ref, path, false) }

// Over says that nothing more is written to the log.
func (c *Copier) Over(ref fsm.AttemptRef, path string) { c.watch(c.cfg.Self, ref, path, true) }

func (c *Copier) watch(owner fsm.NodeID, ref fsm.AttemptRef, path string, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.logs[ref]
	if !ok {
		e = &entry{ref: ref, path: path, owner: owner, sent: -1}
		c.logs[ref] = e
	}
	e.over = e.over || over
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run copies and seals until ctx ends.
func (c *Copier) Run(ctx context.Context) error {
	defer c.puts.Wait()
	ticker := time.NewTicker(c.cfg.Every)
	defer ticker.Stop()
	orphans := time.NewTicker(c.cfg.Orphaned / 4)
	defer orphans.Stop()
	for {
		if c.idle() { // then nothing has to be looked at before somebody comes
			select {
			case <-ctx.Done():
				return nil
			case <-c.wake:
			case <-orphans.C:
				c.lookForOrphans(time.Now())
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-orphans.C:
			c.lookForOrphans(time.Now())
		case <-ticker.C:
			c.round(ctx)
		}
	}
}

func (c *Copier) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.logs) == 0
}

// round brings all logs one step on: what was written to the copies, what has ended
// into seals, seals into the state; and forgets what is done with.
func (c *Copier) round(ctx context.Context) {
	open, over := c.sort(time.Now())
	c.copy(ctx, append(open, c.late(over)...))
	for _, e := range over {
		if e.seal == nil {
			c.pack(ctx, e)
		}
	}
	c.upload(ctx, over)
	c.give(ctx, over)
	c.register(ctx, over)
	c.tellKnown(ctx, over)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.step)
	c.step = make(chan struct{})
}

// Settled returns when every log that has ended is sealed and the state knows. A node
// that leaves for good waits for it.
func (c *Copier) Settled(ctx context.Context) error {
	for {
		left, step := c.unsettled()
		if left == 0 {
			return nil
		}
		select {
		case <-step:
		case <-ctx.Done():
			return fmt.Errorf("%d logs are not on another node yet: %w", left, ctx.Err())
		}
	}
}

func (c *Copier) unsettled() (left int, step <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.logs {
		if e.over && !e.done {
			left++
		}
	}
	return left, c.step
}

// sort tells the logs that are written to from those that have ended, and removes
// those that need nothing more.
func (c *Copier) sort(now time.Time) (open, over []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, e := range c.logs {
		switch {
		case !e.over:
			open = append(open, e)
		case e.doneAt.IsZero() || !e.wasKnown:
			over = append(over, e)
		case now.Sub(e.doneAt) >= c.cfg.Grace:
			if err := os.Remove(e.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				c.cfg.Log.Warn("remove log that is sealed", "attempt", ref.String(), "error", err)
			}
			delete(c.logs, ref)
		}
	}
	return open, over
}

// pack seals a log into this node's store.
func (c *Copier) pack(ctx context.Context, e *entry) {
	b, bytes, packed, err := c.seal(ctx, e.path)
	switch {
	case errors.Is(err, os.ErrNotExist): // it never had one, or it is sealed already
		e.wasKnown = true
		c.finish(e)
	case err != nil:
		if ctx.Err() == nil {
			c.cfg.Log.Warn("seal log, trying again", "attempt", e.ref.String(), "error", err)
		}
	default:
		b.Holders = []fsm.NodeID{c.cfg.Self}
		e.packed, e.seal = packed, &fsm.SealLog{Ref: e.ref, Bytes: bytes, Log: b}
	}
}

// register enters what the bucket or two nodes have, or one where there is no other, in
// one go.
func (c *Copier) register(ctx context.Context, over []*entry) {
	var ready []*entry
	var seals []fsm.SealLog
	for _, e := range over {
		if e.seal != nil && e.given && e.doneAt.IsZero() {
			ready, seals = append(ready, e), append(seals, *e.seal)
		}
	}
	if len(seals) == 0 {
		return
	}
	answers, err := c.cfg.Register(ctx, seals)
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Info("enter sealed logs, trying again", "logs", len(seals), "error", err)
		}
		return
	}
	for i, e := range ready {
		switch {
		case errors.Is(answers[i], fsm.ErrNotEnded): // the result is still on its way
			continue
		case answers[i] != nil:
			c.cfg.Log.Info("sealed log refused", "attempt", e.ref.String(), "reason", answers[i])
		}
		c.finish(e)
		e.wasKnown = e.peer == ""
	}
}

func (c *Copier) finish(e *entry) {
	e.doneAt = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e.done = true
}
