package supervise

import (
	"context"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// classes are the failure classes of what a step can end by.
var classes = map[fsm.Cause]pipeline.Class{
	fsm.CauseFailure: pipeline.ClassFailure,
	fsm.CauseTimeout: pipeline.ClassTimeout,
	fsm.CauseOOM:     pipeline.ClassOOM,
}

// again reports whether a step that has been tried so often is tried once more.
func again(r *pipeline.Retry, end ending, tries int) bool {
	class, known := classes[end.cause]
	switch {
	case r == nil || !known || end.status != fsm.Failed || tries > r.Max:
		return false
	case len(r.When) > 0 && !slices.Contains(r.When, class) && !slices.Contains(r.When, pipeline.ClassAlways):
		return false
	default:
		return class != pipeline.ClassFailure || len(r.ExitCodes) == 0 || slices.Contains(r.ExitCodes, end.exit)
	}
}

// maxBackoff is where a pause stops to double.
const maxBackoff = time.Hour

// backoff is the pause after so many tries, from 1.
func backoff(r *pipeline.Retry, tries int) time.Duration {
	pause := r.Backoff
	for n := 1; n < tries && pause < maxBackoff; n++ {
		pause *= 2
	}
	if pause > maxBackoff {
		return max(maxBackoff, r.Backoff)
	}
	return pause
}

// sleep reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
