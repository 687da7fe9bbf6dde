// Package executor runs an attempt's steps: in a container (Docker) or as plain
// processes (Process). It owns how they are isolated and limited, what they find
// in their environment, and that nothing of them is left behind. It doesn't own
// the checkout, which attempts a node should run, or what their results mean.
//
// Invariant: whatever an executor starts carries the attempt that it belongs to
// (labels of a container, environment of a process), so that a narwhal that knows
// nothing any more can still tell whose it is, adopt it, or sweep it away.
//
// Start reading at Executor. Both kinds hand the steps to package supervise, which
// runs them and leaves the outcome in the attempt's journal.
package executor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/supervise"
)

// ErrGone is returned by Adopt when nothing is left of an attempt that could be
// gone on with, nor a result.
var ErrGone = errors.New("nothing of the attempt is left")

// Task is an attempt that is to be run.
type Task struct {
	Ref        fsm.AttemptRef
	Work       link.Work
	Cluster    string
	Node       fsm.NodeID
	Dir        string            // the attempt's own folder: spec, log and journal
	Workspace  string            // the checkout, where steps run
	ObjectsDir string            // git objects that the checkout borrows; empty for none
	Env        map[string]string // laid over all but the steps' own, such as NARWHAL_URL

	// Secrets are those that the job and its steps name, in the clear. They reach
	// the steps in memory and are written to no disk.
	Secrets map[string]string
	// Registries are credentials by the host of a registry, such as "docker.io".
	Registries map[string]Credentials
	// Restore are archives in the attempt's folder InDir, Caches what is to be packed
	// into OutDir. What the job leaves of artifacts is ArtifactsFile and JUnitFile
	// in OutDir. All that lies in OutDir is the job's: follow no link there.
	Restore []Restore
	Caches  []Cache
	// CacheLimit is how many bytes the archive of a cache may have in OutDir,
	// ArtifactsLimit those of artifacts and of test reports; 0 is any.
	CacheLimit, ArtifactsLimit int64
	// Approvals are the keys to manual steps, by the steps' names. They must not come
	// into the job's hands.
	Approvals map[string]string
}

// What goes into and comes out of a job is described as package supervise does.
type (
	Restore = supervise.Restore
	Cache   = supervise.Cache
	// Decision is a person's word on the manual steps of a name.
	Decision = supervise.Decision
)

// The folders of an attempt's own that hold archives, and the names of some.
const (
	InDir         = supervise.InDir
	OutDir        = supervise.OutDir
	ArtifactsFile = "artifacts.tar.zst"
	JUnitFile     = "junit.tar.zst"
)

// DefaultPids is how many processes and threads a job has at most, where nothing else is
// said.
const DefaultPids = 2048

// Executor runs attempts.
type Executor interface {
	// Name is "docker" or "process".
	Name() string
	// Start starts the attempt. ctx bounds the start, not the run. What the job
	// itself is to blame for, or its image, is an outcome of the Run; the error is
	// the machine's.
	Start(ctx context.Context, t Task) (Run, error)
	// Adopt goes on with an attempt that an earlier process of narwhal started:
	// ErrGone where there is nothing to go on with.
	Adopt(ctx context.Context, t Task) (Run, error)
	// Sweep removes what this node's attempts left on the machine, but for those
	// that keep names. It touches nothing of anybody else's.
	Sweep(ctx context.Context, keep func(fsm.AttemptRef) bool) error
}

// Run is an attempt on its way.
type Run interface {
	// Wait returns when the attempt has ended and nothing of it is left but its
	// folder. When ctx ends first, the attempt goes on and can be waited for again.
	Wait(ctx context.Context) (fsm.Outcome, error)
	// Stop asks the attempt to end, and makes it end after grace. It returns when
	// it has. A second call may shorten the grace of the first.
	Stop(ctx context.Context, grace time.Duration) error
	// Decide hands a person's word on a manual step to the attempt, which may not
	// have come to the step yet. Doing so again changes nothing.
	Decide(ctx context.Context, d Decision) error
}

// ended is an attempt that ended before it ran.
type ended struct{ outcome fsm.Outcome }

func (e ended) Wait(context.Context) (fsm.Outcome, error) { return e.outcome, nil }
func (e ended) Stop(context.Context, time.Duration) error { return nil }
func (e ended) Decide(context.Context, Decision) error    { return nil }

// Waiting are the names of the steps that wait for a person, as the attempt's
// journal tells.
func (t Task) Waiting() ([]string, error) {
	records, err := supervise.ReadJournal(t.journal())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range supervise.WaitingSteps(records) {
		// A job can write to its own journal.
		if i < 0 || i >= len(t.Work.Spec.Steps) || !t.Work.Spec.Steps[i].When.Manual {
			continue
		}
		if name := t.Work.Spec.Steps[i].Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (t Task) log() string     { return filepath.Join(t.Dir, supervise.LogFile) }
func (t Task) journal() string { return filepath.Join(t.Dir, supervise.JournalFile) }

// check refuses a task that can't be run at all.
func (t Task) check() error {
	switch {
	case t.Work.Spec == nil:
		return fmt.Errorf("start attempt %s: it has no steps to run", t.Ref)
	case !filepath.IsAbs(t.Dir) || !filepath.IsAbs(t.Workspace):
		return fmt.Errorf("start attempt %s: its folders %q and %q are not absolute", t.Ref, t.Dir, t.Workspace)
	}
	return nil
}

// bytesText says a number of bytes as people would.
func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20 || n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
