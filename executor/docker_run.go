package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

const (
	beginEvery = 5 * time.Millisecond
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// dockerRun is a container that has been started.
type dockerRun struct {
	d       *Docker
	t       Task
	id      string
	stopped atomic.Bool // Stop was asked for
}

// Wait follows the containers to their end, over restarts of the engine, puts what
// came of them into the journal and then removes them: whoever is interrupted in
// between does it again.
func (r *dockerRun) Wait(ctx context.Context) (fsm.Outcome, error) {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	if hasBeside(r.t) {
		watch.Go(func() { r.watchBeside(watching) })
	}
	var o fsm.Outcome
	err := r.d.insist(ctx, "wait for attempt "+r.t.Ref.String(), func() (err error) {
		o, err = r.conclude(ctx)
		return err
	})
	return o, err
}

// conclude is Wait, once.
func (r *dockerRun) conclude(ctx context.Context) (o fsm.Outcome, err error) {
	state, err := r.end(ctx)
	if err != nil {
		return o, err
	}
	records, err := supervise.ReadJournal(r.t.journal())
	if err != nil {
		return o, err
	}
	if r.stopped.Load() && !supervise.Has(records, supervise.RecordStop) { // there was no room for it
		records = append(records, supervise.Record{Kind: supervise.RecordStop})
	}
	o, err = r.whoStopped(ctx, r.d.verdict(r.t, records, state), records, state)
	if err != nil {
		return o, err
	}
	recorded, told := supervise.Outcome(records)
	if hasBeside(r.t) {
		if o, err = r.d.besideVerdict(ctx, r.t, records, o); err != nil {
			return o, err
		}
	}
	o.LogBytes = r.t.endLog(r.d.cfg.LogLimit, r.d.log)
	if !told || recorded.Status != o.Status || recorded.Cause != o.Cause {
		if err := r.note(supervise.Record{Kind: supervise.RecordEnd, Outcome: &o}); err != nil {
			return o, err
		}
	}
	if err := supervise.BoundJournal(r.t.journal()); err != nil { // which keeps no job from its end
		r.d.log.Warn("leave a journal that is longer than its limit", "attempt", r.t.Ref.String(), "error", err)
	}
	return o, r.clear(ctx)
}

// note writes to the journal of a job that is over. Where the disk is full, what the
// job has left makes room: it may be what fills it.
func (r *dockerRun) note(record supervise.Record) error {
	err := supervise.Note(r.t.journal(), record)
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	r.d.log.Warn("the disk is full: removing what the job has left, to note how it ended", "attempt", r.t.Ref.String())
	return errors.Join(
		os.RemoveAll(r.t.Workspace), os.RemoveAll(filepath.Join(r.t.Dir, OutDir)),
		supervise.Note(r.t.journal(), record),
	)
}

// clear leaves nothing of the attempt but its folder.
func (r *dockerRun) clear(ctx context.Context) (err error) {
	if hasBeside(r.t) {
		err = r.d.discard(ctx, r.t)
	} else {
		err = errors.Join(r.d.secrets.remove(r.t.Ref), r.d.remove(ctx, r.id))
	}
	if err == nil {
		err = leaveSlot(r.t.Dir)
	}
	if err == nil {
		r.d.warm.over(r.t.Ref)
	}
	return err
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

// Stop asks the supervisor to end the job. What is there still after grace is killed.
func (r *dockerRun) Stop(ctx context.Context, grace time.Duration) error {
	// On the disk first: it tells a stop that was asked for from an engine's that
	// ends its containers. A full disk is no reason to let the job run on.
	r.stopped.Store(true)
	if err := supervise.Note(r.t.journal(), supervise.Record{Kind: supervise.RecordStop}); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("stop attempt %s: %w", r.t.Ref, err)
	}
	// A little longer than the supervisor's own: it is the one who should do it,
	// since it says which step it was.
	patient, cancel := context.WithTimeout(ctx, grace+time.Second)
	var telling sync.WaitGroup
	telling.Go(func() { r.tell(patient, grace) })
	err := r.gone(patient)
	cancel()
	telling.Wait()
	if err == nil {
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

// tell asks the supervisor to end the job until it has heard: by its socket, and
// while that is not there by the container's signal to stop, which in what an earlier
// version has started is another. The first process of a container takes no signal
// before it has said that it does: one that comes too early is lost.
func (r *dockerRun) tell(ctx context.Context, grace time.Duration) {
	socket := filepath.Join(r.t.Dir, supervise.SocketsDir, supervise.ControlSocket)
	for pause := firstRetry; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		if supervise.AskStop(ctx, socket, grace) == nil {
			return
		}
		if over, err := r.signalStop(ctx); over {
			return
		} else if err != nil {
			r.d.log.Debug("stop attempt by signal, trying again", "attempt", r.t.Ref.String(), "error", err)
		}
		sleep(ctx, pause)
	}
}

// Decide hands the decision in by the control socket. The key is good for the one step
// that it approves, so that a job that has put a socket of its own there learns nothing
// by it.
func (r *dockerRun) Decide(ctx context.Context, d Decision) error {
	return supervise.AskDecide(ctx, filepath.Join(r.t.Dir, supervise.SocketsDir, supervise.ControlSocket), d)
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

// signalStop is signal with the one that tells this container to stop.
func (r *dockerRun) signalStop(ctx context.Context) (over bool, err error) {
	found, err := r.d.api.ContainerInspect(ctx, r.id)
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at container: %w", err)
	}
	return r.signal(ctx, cmp.Or(found.Config.StopSignal, supervise.StopSignalName))
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
		sleep(ctx, pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
