package executor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// waitFlag has a supervisor wait until it is told to begin. One that has secrets does:
// they come with that word, and so are in no file, and no variable of the container's.
const waitFlag = "--warm"

// secretsFit is the outcome of a job whose secrets can't be handed on; nil where they can.
func secretsFit(t Task) *fsm.Outcome {
	if err := supervise.Fits(t.Secrets); err != nil {
		return &fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: err.Error() + ": name fewer of them, or put what is large elsewhere"}
	}
	return nil
}

// hand tells the supervisor of a container that has been started to begin, and hands it
// the secrets. It returns when it has begun, or can't any more: what has become of it
// is for who waits for it to find out.
func (d *Docker) hand(ctx context.Context, t Task, id string) error {
	socket := filepath.Join(t.Dir, supervise.SocketsDir, supervise.WarmSocket)
	for {
		told := supervise.Begin(ctx, socket, t.Secrets)
		if told == nil {
			return nil
		}
		// It may have been told before, or have heard without our hearing of it.
		records, err := supervise.ReadJournal(t.journal())
		if err != nil || supervise.Has(records, supervise.RecordBegun) {
			return err
		}
		found, err := d.api.ContainerInspect(ctx, id)
		switch {
		case errdefs.IsNotFound(err), err == nil && !found.State.Running:
			d.log.Warn("a job's container ended before it began", "attempt", t.Ref.String(), "error", told)
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("hand on secrets: %w", errors.Join(told, ctx.Err()))
		}
		sleep(ctx, beginEvery)
	}
}

// adoptUnbegun goes on with an attempt that was not told to begin. There is no Run
// where it can't be: nothing is left of it then.
func (d *Docker) adoptUnbegun(ctx context.Context, t Task, found container.Summary, waits bool, records []supervise.Record) (Run, error) {
	stopped := supervise.Has(records, supervise.RecordStop)
	if waits && len(t.Secrets) > 0 && !stopped {
		switch found.State {
		case container.StateCreated: // narwhal ended between creating and starting it
			return d.begin(ctx, t, found.ID)
		case container.StateRunning:
			if err := d.hand(ctx, t, found.ID); err != nil {
				return nil, err
			}
			return &dockerRun{d: d, t: t, id: found.ID}, nil
		}
	}
	if err := d.discard(ctx, t); err != nil {
		return nil, err
	}
	// Only now can't it begin any more.
	records, err := supervise.ReadJournal(t.journal())
	if err != nil {
		return nil, err
	}
	if stopped || supervise.Has(records, supervise.RecordBegun) {
		return ended{d.verdict(t, records, nil)}, nil
	}
	return nil, ErrGone
}

// unbegun reports whether the container has done nothing of the job yet: it waits to be
// told to begin, or did so in vain; or it was made and not started, by a version of
// narwhal that left the secrets in a file.
func (d *Docker) unbegun(ctx context.Context, found container.Summary, records []supervise.Record) (unbegun, waits bool, err error) {
	if supervise.Has(records, supervise.RecordBegun) {
		return false, false, nil
	}
	full, err := d.api.ContainerInspect(ctx, found.ID)
	if errdefs.IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("look at container: %w", err)
	}
	if slices.Contains(full.Config.Entrypoint, waitFlag) {
		return true, true, nil
	}
	secrets := func(m mount.Mount) bool { return m.Target == filepath.Join(superviseIn, supervise.SecretsFile) }
	return found.State == container.StateCreated && slices.ContainsFunc(full.HostConfig.Mounts, secrets), false, nil
}
