package lab

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// restartAfter is the pause before a process that has ended is started again.
const restartAfter = 200 * time.Millisecond

// Tend starts a node again each time that its process has ended, as a service manager
// does, until ctx ends.
func (l *Lab) Tend(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range l.Nodes {
		group.Go(func() error {
			for {
				_ = n.Await(ctx) // however it ended
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(restartAfter):
				}
				if err := n.Launch(); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}
