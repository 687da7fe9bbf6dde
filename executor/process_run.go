package executor

import (
	"context"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// processRun is an attempt that runs in this process's care.
type processRun struct {
	cancel context.CancelCauseFunc
	now    chan struct{}
	desk   *supervise.Desk
	once   sync.Once
	done   chan struct{}

	outcome fsm.Outcome // with err, once done is closed
	err     error
}

func (r *processRun) Wait(ctx context.Context) (fsm.Outcome, error) {
	select {
	case <-r.done:
		return r.outcome, r.err
	case <-ctx.Done():
		return fsm.Outcome{}, ctx.Err()
	}
}

func (r *processRun) Stop(ctx context.Context, grace time.Duration) error {
	r.cancel(&supervise.Stop{Grace: grace, Now: r.now})
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-timer.C:
		r.once.Do(func() { close(r.now) })
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Decide hands the decision in.
func (r *processRun) Decide(_ context.Context, d Decision) error {
	r.desk.Decide(d)
	return nil
}
