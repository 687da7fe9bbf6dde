package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// lostArtifacts is returned when a job can't be given what it needs.
type lostArtifacts struct {
	job string
	err error
}

func (l lostArtifacts) Error() string {
	return fmt.Sprintf("the artifacts of job %s could not be had: %v", l.job, l.err)
}

func (l lostArtifacts) Unwrap() error { return l.err }

// Cause is that of a node that is gone: it may come back, and a retry help.
func (l lostArtifacts) Cause() fsm.Cause { return fsm.CauseNodeLost }

// bringArtifacts gets the artifacts of the jobs that this one needs.
func (k *keeper) bringArtifacts(ctx context.Context, t *executor.Task, say say) error {
	for i, job := range slices.Sorted(maps.Keys(t.Work.Artifacts)) {
		a := t.Work.Artifacts[job]
		file := fmt.Sprintf("artifacts-%d.tar.zst", i)
		err := k.supply(ctx, t, a.Archive, file)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return lostArtifacts{job, err}
		}
		say("artifacts of job %s: %d files, %d bytes", job, a.Files, a.Bytes)
		t.Restore = append(t.Restore, executor.Restore{Name: "artifacts of job " + job, Archive: file})
	}
	return nil
}

// wanted tells whether artifacts are kept of a job that has ended so.
func wanted(on pipeline.RunOn, s fsm.Status) bool {
	switch {
	case s != fsm.Passed && s != fsm.Failed:
		return false
	case on == pipeline.Always:
		return true
	}
	return (on == pipeline.OnFailure) == (s == fsm.Failed)
}

// errNoArtifacts is returned when a job has left none.
var errNoArtifacts = errors.New("there are none")

// lostBecause is why a job's artifacts could not be kept. What they are themselves, or
// what the job has put in their place, is the same on any node.
func lostBecause(err error) fsm.Cause {
	for _, jobs := range []error{errOdd, archive.ErrTooLarge, archive.ErrUnsafe, archive.ErrCorrupt} {
		if errors.Is(err, jobs) {
			return fsm.CauseConfig
		}
	}
	return fsm.CauseNodeLost
}

// collectArtifacts keeps what the job has left. A job that passed and whose
// artifacts are lost has not done what it was for: it is Errored.
func (k *keeper) collectArtifacts(ctx context.Context, t executor.Task, o fsm.Outcome, say say) fsm.Outcome {
	a, err := k.storeArtifacts(ctx, t, say)
	switch {
	case err == nil:
		o.Artifacts = &a
	case errors.Is(err, errNoArtifacts):
		say("artifacts: there are none")
	case o.Status == fsm.Passed:
		return fsm.Outcome{
			Status: fsm.Errored, Cause: lostBecause(err), Message: fmt.Sprintf("the job passed, but its artifacts could not be kept: %v", err),
			Steps: o.Steps, PeakMemory: o.PeakMemory, CPUTime: o.CPUTime, Tests: o.Tests,
		}
	default:
		say("artifacts could not be kept: %v", err)
	}
	return o
}

// unpackedRatio is how many times larger than its archive's limit artifacts may be.
const unpackedRatio = 16

func (k *keeper) storeArtifacts(ctx context.Context, t executor.Task, say say) (a fsm.Artifacts, err error) {
	limit := k.limits.filled().Artifacts
	f, err := left(t, executor.ArtifactsFile, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return a, errNoArtifacts
	}
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The job may have written it itself: it is read to its end before others get it.
	files, bytes, err := archive.Count(ctx, f, archive.Limits{Bytes: limit * unpackedRatio})
	if err != nil {
		return a, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return a, err
	}
	a = fsm.Artifacts{Files: files, Bytes: bytes}
	if expire := t.Work.Spec.Artifacts.ExpireIn; expire > 0 {
		a.ExpireAt = k.now().Add(expire)
	}
	a.Archive, err = k.store(ctx, f, limit, say)
	return a, err
}
