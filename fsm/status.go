package fsm

// Status is where a build, job or attempt stands.
type Status string

// The statuses. Passed, Failed, Errored, Canceled and Skipped are terminal.
const (
	Blocked  Status = "blocked"  // waits for the jobs it needs
	Held     Status = "held"     // waits for a person to approve it
	Queued   Status = "queued"   // waits for a node
	Assigned Status = "assigned" // placed, the node has not confirmed yet
	Running  Status = "running"
	Passed   Status = "passed"
	Failed   Status = "failed"   // the user's commands said no
	Errored  Status = "errored"  // it could not be run, or not to its end
	Canceled Status = "canceled" // by a person, or because a job it needs did not pass
	Skipped  Status = "skipped"  // its when did not ask for it
)

// Terminal reports whether nothing follows on s.
func (s Status) Terminal() bool {
	return s == Passed || s == Failed || s == Errored || s == Canceled || s == Skipped
}

// Placed reports whether a job of status s lies on a node.
func (s Status) Placed() bool { return s == Assigned || s == Running }

// Cause says why a job or attempt did not pass.
type Cause string

// The causes. ImagePull, Checkout and NodeLost are the infrastructure's and are
// retried; the others are the user's and are retried only where the file says so.
const (
	CauseFailure   Cause = "failure"    // a step exited with another status than 0
	CauseTimeout   Cause = "timeout"    // the job's or a step's time was up
	CauseOOM       Cause = "oom"        // it used more memory than its limit
	CauseImagePull Cause = "image_pull" // the image could not be had
	CauseCheckout  Cause = "checkout"   // the commit could not be fetched
	CauseNodeLost  Cause = "node_lost"  // the node went away with it
	CauseCanceled  Cause = "canceled"   // a person stopped it
	CauseConfig    Cause = "config"     // narwhal.yml is missing or wrong
	CauseNeeds     Cause = "needs"      // a job that it needs did not pass
	CauseRejected  Cause = "rejected"   // a person did not approve it
	CauseReplaced  Cause = "replaced"   // a newer build has taken its concurrency group
)
