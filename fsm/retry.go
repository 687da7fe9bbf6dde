package fsm

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

const (
	maxNodeLosses = 2 // a job that has lost so many nodes is quarantined
	maxRetries    = 2 // of image_pull and checkout each, where the file says nothing

	firstBackoff = 5 * time.Second // and four times as long before the second retry
	maxBackoff   = 10 * time.Minute
)

// retry says whether a job whose attempt ended as o is tried again, and after
// how long. The attempt counts already.
func retry(j *Job, o *Outcome) (wait time.Duration, again bool) {
	if o.Cause == CauseNodeLost {
		lasts := j.Losses() < maxNodeLosses && (j.Spec == nil || j.Spec.OnNodeLoss != pipeline.NodeLossFail)
		if !lasts || j.Spec == nil || j.Spec.Retry == nil {
			return 0, lasts
		}
	}
	if j.Spec != nil && j.Spec.Retry != nil {
		return retryAsAsked(j, j.Spec.Retry, o)
	}
	if o.Cause == CauseImagePull || o.Cause == CauseCheckout {
		n := j.ended(o.Cause)
		return defaultBackoff(n), n <= maxRetries
	}
	return 0, false
}

// retryAsAsked goes by the file.
func retryAsAsked(j *Job, r *pipeline.Retry, o *Outcome) (wait time.Duration, again bool) {
	n := j.tries()
	if n > r.Max || !covers(r, o) {
		return 0, false
	}
	if r.Backoff == 0 && (o.Cause == CauseImagePull || o.Cause == CauseCheckout) {
		return defaultBackoff(n), true // at once, it would be no better
	}
	return doubled(r.Backoff, n), true
}

// covers reports whether r names the class of o.
func covers(r *pipeline.Retry, o *Outcome) bool {
	switch o.Cause {
	case CauseFailure:
		if len(r.ExitCodes) > 0 && !slices.Contains(r.ExitCodes, o.ExitCode) {
			return false
		}
	case CauseTimeout, CauseOOM, CauseImagePull, CauseCheckout, CauseNodeLost:
	default:
		return false // canceled and config come out the same again
	}
	return len(r.When) == 0 || slices.Contains(r.When, pipeline.ClassAlways) || slices.Contains(r.When, pipeline.Class(o.Cause))
}

func defaultBackoff(n int) time.Duration { return doubled(firstBackoff, 2*n-1) } // 5 s, 20 s

// doubled is backoff before the n-th retry, from 1.
func doubled(backoff time.Duration, n int) time.Duration {
	for range n - 1 {
		if backoff >= maxBackoff {
			break
		}
		backoff *= 2
	}
	return min(backoff, maxBackoff)
}

// tries counts the attempts that began; one that never did is none.
func (j *Job) tries() int {
	n := 0
	for _, a := range j.Attempts {
		if a.Status.Terminal() && a.Cause != "" {
			n++
		}
	}
	return n
}
