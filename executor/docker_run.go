package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// dockerRun is a container that has been started.
type dockerRun struct {
	d  *Docker
	t  Task
	id string
}

// Wait follows the container to its end, over restarts of the engine, puts what
// came of it into the journal and then removes the container: whoever is
// interrupted in between does it again.
func (r *dockerRun) Wait(ctx context.Context) (fsm.Outcome, error) {
	var o fsm.Outcome
	err := r.d.insist(ctx, "wait for attempt "+r.t.Ref.String(), func() error {
		state, err := r.end(ctx)
		if err != nil {
			return err
		}
		records, err := supervise.ReadJournal(r.t.journal())
		if err != nil {
			return err
		}
		o = r.d.verdict(r.t, records, state)
		if recorded, ok := supervise.Outcome(records); !ok || recorded.Status != o.Status || recorded.Cause != o.Cause {
			if err := supervise.Note(r.t.journal(), supervise.Record{Kind: supervise.RecordEnd, Outcome: &o}); err != nil {
				return err
			}
		}
		return r.d.remove(ctx, r.id)
	})
	return o, err
}

// end waits until the container doesn't run; nil where it isn't there any more.
func (r *dockerRun) end(ctx context.Context) (*container.State, error) {
	ends, errs := r.d.api.ContainerWait(ctx, r.id, container.WaitConditionNotRunning)
	select {
	case <-ends:
	case err := <-errs:
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("wait for container: %w", err)
		}
	}
	found, err := r.d.api.ContainerInspect(ctx, r.id)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("inspect container: %w", err)
	case found.State == nil:
		return nil, errors.New("inspect container: the engine tells no state")
	case found.State.Running || found.State.Restarting:
		return nil, errors.New("wait for container: it runs again")
	}
	return found.State, nil
}

// Stop sends TERM, which the supervisor hands on, and after grace KILL.
func (r *dockerRun) Stop(ctx context.Context, grace time.Duration) error {
	// On the disk first: it tells a stop that was asked for from an engine's that
	// ends its containers.
	if err := supervise.Note(r.t.journal(), supervise.Record{Kind: supervise.RecordStop}); err != nil {
		return fmt.Errorf("stop attempt %s: %w", r.t.Ref, err)
	}
	if over, err := r.signal(ctx, "SIGTERM"); over || err != nil {
		return err
	}
	// A little longer than the supervisor's own: it is the one who should do it,
	// since it says which step it was.
	patient, cancel := context.WithTimeout(ctx, grace+time.Second)
	defer cancel()
	if err := r.gone(patient); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if over, err := r.signal(ctx, "SIGKILL"); over || err != nil {
		return err
	}
	return r.gone(ctx)
}

func (r *dockerRun) gone(ctx context.Context) error {
	return r.d.insist(ctx, "stop attempt "+r.t.Ref.String(), func() error {
		_, err := r.end(ctx)
		return err
	})
}

// signal reports whether the container has ended, so that there is nobody to
// send it to.
func (r *dockerRun) signal(ctx context.Context, name string) (over bool, err error) {
	err = r.d.api.ContainerKill(ctx, r.id, name)
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("stop attempt %s: %w", r.t.Ref, err)
	}
	return false, nil
}

// insist does again what failed, ever more patiently, until ctx ends: an engine
// that is being restarted is no failure of the job.
func (d *Docker) insist(ctx context.Context, what string, do func() error) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.log.Warn(what+", trying again", "error", err, "in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// verdict puts the journal and the engine's word together. state is nil where the
// container is gone.
func (d *Docker) verdict(t Task, records []supervise.Record, state *container.State) fsm.Outcome {
	o, told := supervise.Outcome(records)
	asked := supervise.Has(records, supervise.RecordStop)
	for _, r := range records {
		if !told && r.Kind == supervise.RecordStep {
			o.Steps = append(o.Steps, *r.Result)
		}
	}
	switch {
	// The flag is set for any process of the container. A job that passes all the
	// same got over it.
	case state != nil && state.OOMKilled && !asked && (!told || o.Cause == fsm.CauseFailure):
		o.Status, o.Cause = fsm.Failed, fsm.CauseOOM
		o.ExitCode = max(o.ExitCode, state.ExitCode)
		o.Message = fmt.Sprintf("it used more than its memory limit of %s", bytesText(memoryLimit(t)))
	case told && (o.Status != fsm.Canceled || asked):
		// The supervisor's word stands.
	case told:
		o = lost(o, "its container was stopped from outside of narwhal")
	case asked:
		o.Status, o.Cause, o.Message = fsm.Canceled, fsm.CauseCanceled, "canceled; it had to be killed"
	case state == nil:
		o = lost(o, "its container was removed from outside of narwhal")
	default:
		o = lost(o, fmt.Sprintf("its container ended with exit code %d and no result: it was killed, or the machine or the engine went down %s",
			state.ExitCode, state.Error))
	}
	o.LogBytes = logBytes(t)
	return o
}

// lost is how a job ends that the machine didn't let end. It is run again.
func lost(o fsm.Outcome, message string) fsm.Outcome {
	o.Status, o.Cause, o.Message = fsm.Errored, fsm.CauseNodeLost, message
	return o
}
