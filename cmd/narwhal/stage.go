package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// stage is a group of loops that start and stop together. A node is a stack of
// them: what starts first is stopped last, since the others stand on it.
type stage struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	group  *errgroup.Group
}

// newStage makes a stage that ends with stop, or with its first failure. It does
// not end with base's own end: the stack is taken down from the top.
func newStage(base context.Context, name string) *stage {
	ctx, cancel := context.WithCancel(context.WithoutCancel(base))
	group, ctx := errgroup.WithContext(ctx)
	return &stage{name: name, ctx: ctx, cancel: cancel, group: group}
}

// start runs a loop that must not return before the stage is stopped.
func (s *stage) start(what string, run func(context.Context) error) {
	s.group.Go(func() error {
		err := run(s.ctx)
		if s.ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return nil
		}
		if err == nil {
			return fmt.Errorf("%s ended by itself", what)
		}
		return fmt.Errorf("%s: %w", what, err)
	})
}

func (s *stage) stop() error {
	s.cancel()
	return s.group.Wait()
}

// runStages waits until ctx ends or a stage fails, and then stops the stages from
// the last to the first. It returns what failed.
func runStages(ctx context.Context, stages ...*stage) error {
	var watch errgroup.Group
	failed := make(chan struct{}, len(stages))
	for _, s := range stages {
		watch.Go(func() error {
			<-s.ctx.Done()
			failed <- struct{}{}
			return nil
		})
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	var errs []error
	for i := len(stages) - 1; i >= 0; i-- {
		errs = append(errs, stages[i].stop())
	}
	return errors.Join(append(errs, watch.Wait())...)
}
