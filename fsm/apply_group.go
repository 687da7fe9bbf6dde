package fsm

import (
	"fmt"
	"slices"
)

// contend settles who goes for whom when a job has come to its concurrency group,
// or was approved: with cancel_in_progress only the newest build's jobs stay,
// whichever plan came first.
func (tx *txn) contend(b *Build, j *Job) {
	c, ok := j.Group()
	if !ok || j.Status.Terminal() {
		return
	}
	for _, other := range slices.Collect(inGroup(tx.groups.Root(), c.Group)) {
		o := tx.buildOf(other)
		switch oc, _ := other.Group(); {
		case other.ID.Build == b.ID:
		case other.ID.Build < b.ID && c.CancelInProgress && contends(j) && mayReplace(b, o):
			tx.replace(other.ID, b.ID)
		case other.ID.Build > b.ID && oc.CancelInProgress && contends(other) && mayReplace(o, b):
			tx.replace(j.ID, o.ID)
			return
		}
	}
}

// contends reports whether a job asks for its group's place: one that a person
// must approve does so only then.
func contends(j *Job) bool {
	return !j.Status.Terminal() && (!j.Spec.When.Manual || j.ApprovedBy != "")
}

// mayReplace says whose work a commit may end: what its own repository does, and
// a fork only what forks do. Group names are free text, and anybody's.
func mayReplace(newer, older *Build) bool {
	return newer.Commit.Repo == older.Commit.Repo && (!newer.Commit.Fork || older.Commit.Fork)
}

// replace ends a job for a newer build that has taken its place, and all of its
// build where the group is the whole build's.
func (tx *txn) replace(id JobID, by BuildID) {
	j, ok := tx.jobs.Get(id.key())
	if !ok || j.Status.Terminal() {
		return // with the rest of its build
	}
	if c, _ := j.Group(); c.PerBuild {
		tx.stopBuild(tx.buildOf(j), buildName(by), by)
		return
	}
	if j.CanceledBy == "" {
		tx.markStop(j.ID.Build, j.ID.Seq, by)
	}
	tx.stopJob(j, buildName(by), by)
}

func buildName(id BuildID) string { return fmt.Sprintf("build %d", id) }

// stopBuild ends what a build has open: what waits at once, what runs when its
// node has stopped it. replaced is 0 where a person asked for it.
func (tx *txn) stopBuild(b *Build, by string, replaced BuildID) {
	if b.CanceledBy != "" || b.Status.Terminal() {
		return
	}
	next := *b
	next.CanceledBy, next.ReplacedBy = by, replaced
	tx.putBuild(&next)
	tx.markStop(b.ID, wholeBuild, replaced)
	for seq := range b.Jobs {
		if j, ok := tx.jobs.Get(JobID{Build: b.ID, Seq: seq}.key()); ok {
			tx.stopJob(j, by, replaced)
		}
	}
}

func (tx *txn) stopJob(j *Job, by string, replaced BuildID) {
	if j.Status.Terminal() || j.CanceledBy != "" {
		return
	}
	stop := *j
	stop.CanceledBy, stop.ReplacedBy = by, replaced
	if j.Status.Placed() {
		tx.putJob(&stop) // its node stops it and reports
		return
	}
	tx.endJob(&stop, stopped(by, replaced))
}

// stopped is the outcome of what was not let end.
func stopped(by string, replaced BuildID) Outcome {
	if replaced != 0 {
		return Outcome{Status: Canceled, Cause: CauseReplaced, Message: "replaced by " + by}
	}
	return Outcome{Status: Canceled, Cause: CauseCanceled, Message: "canceled by " + by}
}

// enter notes that a build has its place in a group that it shares.
func (tx *txn) enter(b *Build, j *Job) *Build {
	c, ok := j.Group()
	if !ok || !c.PerBuild || slices.Contains(b.Entered, c.Group) {
		return b
	}
	next := *b
	next.Entered = append(slices.Clip(b.Entered), c.Group)
	tx.putBuild(&next)
	return &next
}
