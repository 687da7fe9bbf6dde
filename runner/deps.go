package runner

import (
	"context"
	"errors"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// Checkout brings a commit's files to this node.
type Checkout interface {
	// Ensure returns when the commit is in the mirror.
	Ensure(ctx context.Context, c fsm.Commit) error
	// ReadFile is fs.ErrNotExist where the commit has no such file.
	ReadFile(ctx context.Context, c fsm.Commit, path string) ([]byte, error)
	// Changed lists the paths that a commit changes; known is false where that
	// can't be told.
	Changed(ctx context.Context, c fsm.Commit) (paths []string, known bool, err error)
	// Describe reads a commit's first line and its author.
	Describe(ctx context.Context, c fsm.Commit) (message, author string, err error)
	Checkout(ctx context.Context, c fsm.Commit, clone pipeline.Clone, dir string) error
	// ObjectsDir is the mirror's object store, which a checkout refers to.
	ObjectsDir(c fsm.Commit) string
	// Have lists the repositories whose mirror is here.
	Have() []string
}

// Executor runs the steps of a job: one of package executor's.
type Executor interface {
	Start(ctx context.Context, t executor.Task) (executor.Run, error)
	// Adopt finds what another process of this node has started;
	// executor.ErrGone where nothing of it is left.
	Adopt(ctx context.Context, t executor.Task) (executor.Run, error)
	// Sweep removes all of this node's that keep does not claim.
	Sweep(ctx context.Context, keep func(fsm.AttemptRef) bool) error
}

// preparer is an Executor that can have something of an attempt ready: it is asked
// before anything is put into the attempt's folder, which it may bring.
type preparer interface {
	// Prepare's release is called when Start has returned, or is not called at all.
	Prepare(t executor.Task) (release func())
}

// stocker is an Executor that makes things ahead, which take room on the disk.
type stocker interface {
	// Stock says whether there is room for them: else what is there of them goes.
	Stock(room bool)
}

// Leader keeps a stream to whoever leads: link.Client.
type Leader interface {
	Run(ctx context.Context, session link.Session) error
}

// Copies has the logs that are written here copied and sealed: copies.Copier.
type Copies interface {
	// Watch begins with an attempt's log, at its path.
	Watch(ref fsm.AttemptRef, path string)
	// Over says that nothing more is written to it. It may come without a Watch.
	Over(ref fsm.AttemptRef, path string)
}

// ErrNoLog is returned when this node has no log of an attempt.
var ErrNoLog = errors.New("this node has no log of it")

// caused is an error that knows what it means for the attempt, such as an image
// that could not be had.
type caused interface {
	error
	Cause() fsm.Cause
}

// errored is the outcome of an attempt that err has ended; otherwise is its
// cause unless err knows better.
func errored(err error, otherwise fsm.Cause) fsm.Outcome {
	if c, ok := errors.AsType[caused](err); ok {
		otherwise = c.Cause()
	}
	return fsm.Outcome{Status: fsm.Errored, Cause: otherwise, Message: err.Error()}
}
