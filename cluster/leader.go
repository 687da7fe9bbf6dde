package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	barrierTimeout = 30 * time.Second
	minRetry       = 100 * time.Millisecond
	maxRetry       = 10 * time.Second
)

// tenure is one uninterrupted time as leader.
type tenure struct {
	ctx context.Context // ends with it
	end context.CancelFunc

	mu       sync.Mutex
	caughtUp bool // all that was committed before it is applied here
}

// catchUp waits for that, the first time that it is asked for.
func (t *tenure) catchUp(barrier func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.caughtUp {
		return nil
	}
	err := barrier()
	t.caughtUp = err == nil
	return err
}

// office holds the current tenure, where there is one.
type office struct {
	mu      sync.Mutex
	now     *tenure
	changed chan struct{}
}

func newOffice() *office { return &office{changed: make(chan struct{})} }

// turn takes Raft's word. A second true without a false between is a loss and a
// gain that came close together.
func (o *office) turn(ctx context.Context, leads bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now != nil {
		o.now.end()
		o.now = nil
	}
	if leads {
		t := &tenure{}
		t.ctx, t.end = context.WithCancel(ctx)
		o.now = t
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// current is the tenure that goes on, or nil.
func (o *office) current() *tenure {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

// await returns the current tenure, or the next.
func (o *office) await(ctx context.Context) (*tenure, error) {
	for {
		o.mu.Lock()
		t, changed := o.now, o.changed
		o.mu.Unlock()
		if t != nil && t.ctx.Err() == nil {
			return t, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// drainNotify reads what Raft says of leadership for as long as it lives: Raft
// stands still while nobody does.
func (c *Cluster) drainNotify(ctx context.Context) error {
	defer c.office.turn(ctx, false)
	for {
		select {
		case leads := <-c.notify:
			c.office.turn(ctx, leads)
			c.look()
		case <-ctx.Done():
			return nil
		}
	}
}

// WhileLeader calls fn whenever this node leads, after a barrier, so that fn
// sees all that was committed before. fn's context ends with the leadership, and
// fn is not called again before it has returned. When fn fails, leadership is
// handed to another node; where there is none, fn is called again after a pause.
// It returns ctx's error when ctx ends.
func (c *Cluster) WhileLeader(ctx context.Context, fn func(ctx context.Context, term uint64) error) error {
	delay := minRetry
	for {
		t, err := c.office.await(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		err = c.lead(ctx, t, fn)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case t.ctx.Err() != nil: // the next tenure needs no pause
			delay = minRetry
			continue
		case time.Since(began) > maxRetry:
			delay = minRetry
		}
		c.log.Error("leader's work failed, handing over", "err", err)
		if err := c.handOver(); err != nil {
			c.log.Warn("hand leadership over", "err", err)
		}
		if !wait(ctx, delay) {
			return ctx.Err()
		}
		delay = min(2*delay, maxRetry)
	}
}

// lead is one tenure's call of fn. It returns nil only once the tenure is over.
func (c *Cluster) lead(ctx context.Context, t *tenure, fn func(context.Context, uint64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	var err error
	for range transferTries {
		if err = c.Barrier(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("wait for the log: %w", err)
	}
	err = fn(ctx, c.raft.Load().CurrentTerm())
	if err == nil {
		<-ctx.Done()
	}
	return err
}

// Apply proposes an entry and waits until it is committed and applied here. It
// may be called by many at a time; their entries share disk writes. The error is
// ErrNotLeader, ErrUncertain, ErrTooLarge, ErrMachine or ErrNotRunning.
func (c *Cluster) Apply(ctx context.Context, entry []byte) (index uint64, result any, err error) {
	r := c.raft.Load()
	if r == nil {
		return 0, nil, ErrNotRunning
	}
	if len(entry) > MaxEntry {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(entry), MaxEntry)
	}
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	future := r.Apply(entry, timeLeft(ctx))
	err = future.Error() // waits no longer than a leader without a majority stays one
	if errors.Is(err, raft.ErrRaftShutdown) {
		return 0, nil, fmt.Errorf("apply entry: %w: %w", ErrUncertain, ErrNotRunning)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("apply entry: %w", logError(err))
	}
	switch response := future.Response().(type) {
	case applied:
		return future.Index(), response.result, nil
	case error:
		return 0, nil, response
	default:
		return 0, nil, fmt.Errorf("apply entry: no result")
	}
}

// Barrier waits until all that was committed before is applied here. Leader
// only.
func (c *Cluster) Barrier(ctx context.Context) error {
	r := c.raft.Load()
	if r == nil {
		return ErrNotRunning
	}
	if err := r.Barrier(timeLeft(ctx)).Error(); err != nil {
		return fmt.Errorf("wait for the log: %w", logError(err))
	}
	return nil
}

// VerifyLeader asks a majority whether this node still leads, and makes sure that all that
// was committed under earlier leaders is applied here: a node leads some time before it
// has. The state that is read after it holds whatever was acknowledged before it was asked.
func (c *Cluster) VerifyLeader(ctx context.Context) error {
	r, t := c.raft.Load(), c.office.current()
	if r == nil {
		return ErrNotRunning
	}
	if t == nil {
		return fmt.Errorf("verify leadership: %w", ErrNotLeader)
	}
	if err := t.catchUp(func() error { return c.Barrier(ctx) }); err != nil {
		return err
	}
	if err := r.VerifyLeader().Error(); err != nil {
		return fmt.Errorf("verify leadership: %w", logError(err))
	}
	if c.office.current() != t { // it was lost and won again, and the barrier was before that
		return fmt.Errorf("verify leadership: %w", ErrNotLeader)
	}
	return nil
}

// timeLeft bounds the wait for a place in the queue.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Millisecond)
	}
	return barrierTimeout
}

// logError puts this package's error in the place of Raft's.
func logError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return ErrUncertain
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrNotRunning
	}
	return err
}

// handOver makes another voter the leader. It does nothing on a node that does
// not lead, and fails where there is no other voter.
func (c *Cluster) handOver() error {
	r := c.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return nil
	}
	var err error
	for range transferTries {
		if err = r.LeadershipTransfer().Error(); err == nil || r.State() != raft.Leader {
			return nil
		}
	}
	return fmt.Errorf("hand leadership over: %w", err)
}
