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
const lateWord = 500 * time.Millisecond

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
	known, sent, err := r.sentSignal(ctx, since)
	if err != nil || !known || sent {
		return o, err
	}
	sleep(ctx, lateWord) // the engine tells of a signal after it has sent it
	if _, sent, err = r.sentSignal(ctx, since); err != nil || sent {
		return o, err
	}
	o.Status, o.Cause = fsm.Failed, fsm.CauseFailure
	o.ExitCode = max(o.ExitCode, 1)
	o.Message = "it stopped itself: its first process was told to stop, and neither narwhal nor the engine did so"
	return o, nil
}

// sentSignal reports whether the engine knows all that it has done since a time, and
// whether it sent any of the attempt's containers a signal. It remembers some hundred
// events, and none from before it was started.
func (r *dockerRun) sentSignal(ctx context.Context, since time.Time) (known, sent bool, err error) {
	now := time.Now()
	messages, errs := r.d.api.Events(ctx, events.ListOptions{Since: "1", Until: fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())})
	for {
		select {
		case m := <-messages:
			known = known || time.Unix(0, m.TimeNano).Before(since)
			sent = sent || m.Action == events.ActionKill && r.owns(m.Actor)
		case err := <-errs:
			if err != nil && !errors.Is(err, io.EOF) {
				return false, false, fmt.Errorf("ask the engine who stopped the container: %w", err)
			}
			return known, sent, nil
		}
	}
}

// owns reports whether a container is one of the attempt's: its own, or one beside it.
func (r *dockerRun) owns(c events.Actor) bool {
	ref, err := refOf(c.Attributes)
	return c.ID == r.id || err == nil && ref == r.t.Ref && c.Attributes[labelNode] == string(r.t.Node) && c.Attributes[labelCluster] == r.t.Cluster
}
