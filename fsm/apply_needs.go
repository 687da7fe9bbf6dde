package fsm

import (
	"fmt"

	"github.com/codepr/narwhal/pipeline"
)

// ruling is what the jobs that a job needs say of it.
type ruling int

const (
	undecided ruling = iota // some have not ended, and it depends on them
	goes
	never // whatever comes, its condition can't hold any more
)

// settle lets a blocked job go as far as what it needs allows.
func (tx *txn) settle(j *Job) {
	switch r, o := rule(tx.jobs.Get, j); {
	case r == never:
		tx.endJob(j, o)
	case r == goes && j.Spec.When.Manual:
		j.Status = Held
		tx.putJob(j)
		tx.tellJob(tx.buildOf(j), j)
		tx.markJob(j, TurnHeld)
		tx.endOlderHeld(j)
	case r == goes:
		tx.queue(j)
	}
}

// wakeDependents settles the jobs that waited for one that has ended.
func (tx *txn) wakeDependents(b *Build, ended *Job) {
	for seq := range b.Jobs {
		j, ok := tx.jobs.Get(JobID{Build: b.ID, Seq: seq}.key())
		if !ok || j.Status != Blocked || !j.needs(ended.ID.Seq) {
			continue
		}
		next := *j
		tx.settle(&next)
	}
}

// find looks a job up by its key.
type find func(key []byte) (*Job, bool)

// rule applies a job's When.On to what has become of its needs. The outcome is
// the job's where the ruling is never.
func rule(get find, j *Job) (ruling, Outcome) {
	open := false
	for _, seq := range j.Needs {
		need, ok := get(JobID{Build: j.ID.Build, Seq: seq}.key())
		switch {
		case !ok || !need.Status.Terminal():
			open = true
		case j.Spec.When.On == pipeline.OnSuccess && !need.Counts():
			return never, unmet(need)
		}
	}
	switch {
	case open:
		return undecided, Outcome{}
	case j.Spec.When.On == pipeline.OnFailure && !anyFailed(get, j, make(map[uint32]bool)):
		return never, Outcome{Status: Skipped, Message: "nothing that it needs failed"}
	}
	return goes, Outcome{}
}

// unmet is what becomes of a job that wants need to have passed.
func unmet(need *Job) Outcome {
	if need.Status == Skipped {
		return Outcome{Status: Skipped, Message: fmt.Sprintf("it needs %s, which was skipped", need.Name)}
	}
	return Outcome{Status: Canceled, Cause: CauseNeeds,
		Message: fmt.Sprintf("it needs %s, which did not pass (%s)", need.Name, need.Status)}
}

// anyFailed looks for a failure in all that a job needs, over any number of
// steps: a job in between may have been canceled for it, or have passed.
func anyFailed(get find, j *Job, seen map[uint32]bool) bool {
	for _, seq := range j.Needs {
		if seen[seq] {
			continue
		}
		seen[seq] = true
		need, ok := get(JobID{Build: j.ID.Build, Seq: seq}.key())
		if !ok {
			continue
		}
		if failed := need.Status == Failed || need.Status == Errored; failed && !need.Counts() || anyFailed(get, need, seen) {
			return true
		}
	}
	return false
}
