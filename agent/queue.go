package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Queue takes commits and deletions that have been verified.
type Queue interface {
	// Publish returns nil once the commit can't be lost any more: a majority has it
	// on disk, or RabbitMQ has confirmed it. delivery is the forge's identity of the
	// request, for the logs; it may be empty. Publishing a commit again is harmless.
	// Errors wrap ErrUnavailable where the sender is to try again.
	Publish(ctx context.Context, c fsm.Commit, delivery string) (Receipt, error)
	// Forget does the same for the news that a branch was deleted: its schedules are
	// dropped, unless it has been pushed again since.
	Forget(ctx context.Context, d Deletion, delivery string) error
}

// Receipt is what is known of a commit that was taken.
type Receipt struct {
	Build fsm.BuildID // 0 where it is not known yet
	Known bool        // the commit had made this build before
}

// Proposer takes commands to the replicated log. It must be safe for use by many
// goroutines at once: it is what puts their commands together into log entries.
type Proposer interface {
	// Propose returns after the command has been applied. An error says that it may
	// or may not be in the log; it wraps ErrNotLeader where this node can't put it
	// there. Result.Err is the state's refusal.
	Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error)
}

// LogQueue is the replicated log itself, at the node that leads.
type LogQueue struct {
	Proposer  Proposer
	Overtaken Overtaken
}

// Publish implements Queue.
func (q LogQueue) Publish(ctx context.Context, c fsm.Commit, _ string) (Receipt, error) {
	return q.propose(ctx, addBuild(c).AddBuild)
}

func (q LogQueue) propose(ctx context.Context, add *fsm.AddBuild) (Receipt, error) {
	result, err := q.Proposer.Propose(ctx, fsm.Command{At: time.Now().UTC(), AddBuild: add})
	if err == nil {
		err = result.Err
	}
	switch {
	case errors.Is(err, fsm.ErrInvalid):
		return Receipt{}, fmt.Errorf("%w: %w", ErrBadCommit, err)
	case err != nil:
		return Receipt{}, fmt.Errorf("%w: propose commit %s: %w", ErrUnavailable, add.Commit.Key(), err)
	}
	return Receipt{Build: result.Build, Known: result.Known}, nil
}

func addBuild(c fsm.Commit) fsm.Command {
	return fsm.Command{At: time.Now().UTC(), AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}}
}
