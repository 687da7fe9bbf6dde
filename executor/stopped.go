package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// lateWord is how long after a container's end the engine's word of why may come.
const lateWord = time.Second

// whoStopped corrects the outcome of a job whose supervisor was told to stop, though not
// by narwhal: where it can't have been the engine either, it was the job itself, which
// has both its first process's number and its socket. That is the job's failure: a node
// is not lost by it.
func (r *dockerRun) whoStopped(ctx context.Context, o fsm.Outcome, records []supervise.Record, state *container.State) (fsm.Outcome, error) {
	recorded, told := supervise.Outcome(records)
	if !told || recorded.Status != fsm.Canceled || supervise.Has(records, supervise.RecordStop) || state == nil || !begun(records) {
		return o, nil
	}
	since, err := time.Parse(time.RFC3339Nano, state.StartedAt)
	if err != nil {
		return o, nil
	}
	for _, record := range records {
		if record.Kind == supervise.RecordTold && record.At.After(since) {
			since = record.At
		}
	}
	for range 2 { // the engine tells of a signal after it has sent it
		own, err := r.d.ownStop(ctx, r.id, since)
		if err != nil || !own {
			return o, err
		}
		sleep(ctx, lateWord/2)
	}
	o.Status, o.Cause = fsm.Failed, fsm.CauseFailure
	o.ExitCode = max(o.ExitCode, 1)
	o.Message = "it stopped itself: its first process was told to stop, and neither narwhal nor the engine did so"
	return o, nil
}

// ownStop reports whether the engine knows all that it has done since a time, and that
// it sent the container no signal. It remembers some hundred events, and none from
// before it was started.
func (d *Docker) ownStop(ctx context.Context, id string, since time.Time) (bool, error) {
	messages, errs := d.api.Events(ctx, events.ListOptions{Since: "1", Until: fmt.Sprint(time.Now().Add(time.Second).Unix())})
	known := false
	for {
		select {
		case m := <-messages:
			known = known || time.Unix(0, m.TimeNano).Before(since)
			if m.Type == events.ContainerEventType && m.Actor.ID == id && m.Action == events.ActionKill {
				return false, nil
			}
		case err := <-errs:
			if err != nil && !errors.Is(err, io.EOF) {
				return false, fmt.Errorf("ask the engine who stopped the container: %w", err)
			}
			return known, nil
		}
	}
}
