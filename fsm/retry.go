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
	mostBackoff  = 10 * time.Minute
	// maxBackoff is what a file may ask for, and what doubling comes to at most.
	maxBackoff = 24 * time.Hour
)

// retry says whether a job whose attempt ended as o is tried again, and after
// how long. The attempt counts already.
func retry(j *Job, o *Outcome) (wait time.Duration, again bool) {
	asked := j.Spec != nil && speaksOf(j.Spec.Retry, o.Cause)
	if o.Cause == CauseNodeLost {
		lasts := j.Losses() < maxNodeLosses && (j.Spec == nil || j.Spec.OnNodeLoss != pipeline.NodeLossFail)
		if !lasts || !asked {
			return 0, lasts
		}
	}
	switch {
	case o.Cause == CauseRejected: // the answer would be asked for again
		return 0, false
	case asked:
		return retryAsAsked(j, j.Spec.Retry, o)
	case o.Cause == CauseImagePull || o.Cause == CauseCheckout:
		n := j.ended(o.Cause)
		return defaultBackoff(n), n <= maxRetries
	default:
		return 0, false
	}
}

// speaksOf reports whether a file's retry has a say on a cause. On the
// infrastructure's it has one only where it means them: whoever has tests tried
// again, or not, has not said that a dead node is to fail them.
func speaksOf(r *pipeline.Retry, cause Cause) bool {
	switch {
	case r == nil:
		return false
	case cause != CauseNodeLost && cause != CauseImagePull && cause != CauseCheckout:
		return true
	case len(r.When) == 0:
		return r.Max > 0
	default:
		return names(r, cause)
	}
}

// names reports whether r lists the class of a cause. A file has no word for a
// checkout that failed: it is the same trouble as an image that can't be had.
func names(r *pipeline.Retry, cause Cause) bool {
	if cause == CauseCheckout {
		cause = CauseImagePull
	}
	return slices.Contains(r.When, pipeline.ClassAlways) || slices.Contains(r.When, pipeline.Class(cause))
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
	return doubled(r.Backoff, n, maxBackoff), true
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
	return len(r.When) == 0 || names(r, o.Cause)
}

func defaultBackoff(n int) time.Duration { return doubled(firstBackoff, 2*n-1, mostBackoff) } // 5 s, 20 s

// doubled is backoff before the n-th retry, from 1; most is its bound.
func doubled(backoff time.Duration, n int, most time.Duration) time.Duration {
	for range n - 1 {
		if backoff >= most {
			break
		}
		backoff *= 2
	}
	return min(backoff, most)
}

// tries counts the attempts that came to an end of their own; one that never began, or
// was moved, is none.
func (j *Job) tries() int {
	n := 0
	for _, a := range j.Attempts {
		if a.Status.Terminal() && a.Cause != "" && a.Status != Canceled {
			n++
		}
	}
	return n
}
