package fsm

import (
	"fmt"

	"github.com/codepr/narwhal/pipeline"
)

func (tx *txn) addBuild(c *AddBuild) Result {
	if c.Key == "" || c.Commit.Repo == "" || c.Commit.SHA == "" {
		return Result{Err: fmt.Errorf("%w: a build wants a key, a repository and a SHA", ErrInvalid)}
	}
	if id, ok := tx.keys.Get([]byte(c.Key)); ok {
		return Result{Build: id, Known: true}
	}
	b := &Build{
		ID: tx.nextBuild, Key: c.Key, Commit: c.Commit, RetryOf: c.RetryOf, Inputs: c.Inputs,
		Status: Queued, Jobs: 1, Open: 1, CreatedAt: tx.now,
	}
	tx.nextBuild++
	tx.putBuild(b)
	tx.indexBuild(b)
	tx.tellBuild(b)
	tx.markBuild(b, TurnAccepted)
	tx.noteHead(c)
	plan := &Job{ID: JobID{Build: b.ID}, Name: PlanName, Kind: KindPlan, Repo: c.Commit.Repo}
	tx.queue(plan)
	tx.expireHeld()
	tx.prune()
	return Result{Build: b.ID}
}

// takeText fills in what was not known of a build's commit.
func (tx *txn) takeText(b *Build, text *CommitText) {
	if text == nil || !b.Commit.Untold() {
		return
	}
	next := *b
	next.Commit.Message, next.Commit.Author = text.Message, text.Author
	tx.putBuild(&next)
}

// addJobs takes what a plan brought: the build's jobs, in the file's order.
func (tx *txn) addJobs(b *Build, plan *pipeline.Pipeline) {
	seqs := make(map[string]uint32, len(plan.Jobs))
	for i := range plan.Jobs {
		seqs[plan.Jobs[i].Name] = uint32(i + 1)
	}
	next := *b
	next.Jobs += uint32(len(plan.Jobs))
	next.Open += uint32(len(plan.Jobs))
	tx.putBuild(&next)
	tx.markBuild(&next, TurnPlanned)
	for i := range plan.Jobs {
		spec := &plan.Jobs[i]
		j := &Job{
			ID: JobID{Build: b.ID, Seq: uint32(i + 1)}, Name: spec.Name, Kind: KindRun, Repo: b.Commit.Repo,
			Spec: spec, Priority: priority(b, spec),
		}
		for _, need := range spec.Needs {
			j.Needs = append(j.Needs, seqs[need])
		}
		j.Status = Blocked
		tx.putJob(j)
		switch {
		case spec.Skip != "":
			tx.endJob(j, Outcome{Status: Skipped, Message: spec.Skip})
			continue
		case len(j.Needs) > 0:
			tx.tellJob(b, j)
		}
		next := *j
		tx.settle(&next)
	}
}

// enterGroups has the jobs of a new plan contend for their groups. It comes after
// the plan has ended: a build that is replaced as a whole is stopped with all
// that it has open.
func (tx *txn) enterGroups(id BuildID, plan *pipeline.Pipeline) {
	for i := range plan.Jobs {
		if plan.Jobs[i].Concurrency == nil {
			continue
		}
		if j, ok := tx.jobs.Get(JobID{Build: id, Seq: uint32(i + 1)}.key()); ok {
			tx.contend(tx.buildOf(j), j)
		}
	}
}

// priority is the job's own, but a pull request can't push itself forward.
func priority(b *Build, spec *pipeline.Job) int {
	if b.Commit.Event == EventPullRequest && spec.Priority > 0 {
		return 0
	}
	return spec.Priority
}

func (tx *txn) cancelBuild(c *CancelBuild) error {
	b, ok := tx.builds.Get(c.Build.key())
	if !ok {
		return ErrUnknownBuild
	}
	if b.Status.Terminal() {
		return ErrEnded
	}
	if b.CanceledBy == "" {
		tx.did(Deed{Did: DidCancel, By: c.By, Repo: b.Commit.Repo, Build: b.ID})
	}
	tx.stopBuild(b, c.By, 0)
	return nil
}

// closeBuild ends a build whose last job has ended.
func (tx *txn) closeBuild(b *Build) {
	next := *b
	next.EndedAt = tx.now
	next.Status = Passed
	for seq := range b.Jobs {
		j, _ := tx.jobs.Get(JobID{Build: b.ID, Seq: seq}.key())
		if !j.Counts() && severity(j.Status) > severity(next.Status) {
			next.Status, next.Cause, next.Message = j.Status, j.Cause, j.Name+": "+j.Message
		}
	}
	if b.CanceledBy != "" && next.Status != Passed {
		o := stopped(b.CanceledBy, b.ReplacedBy)
		next.Status, next.Cause, next.Message = o.Status, o.Cause, o.Message
	}
	tx.live.Delete(b.ID.key())
	tx.ended++
	tx.putBuild(&next)
	tx.tellBuild(&next)
	tx.markBuild(&next, TurnEnded)
}

// severity orders what a build's jobs came to: its worst job names the build.
func severity(s Status) int {
	switch s {
	case Canceled:
		return 1
	case Failed:
		return 2
	case Errored:
		return 3
	default:
		return 0
	}
}

// prune forgets the oldest builds that have ended, beyond the history that is
// kept.
func (tx *txn) prune() {
	for tx.ended > tx.history {
		b, ok := tx.oldestEnded()
		if !ok {
			return
		}
		for seq := range b.Jobs {
			tx.jobs.Delete(JobID{Build: b.ID, Seq: seq}.key())
		}
		tx.keys.Delete([]byte(b.Key))
		tx.builds.Delete(b.ID.key())
		tx.forgetTimeline(b.ID)
		tx.ended--
	}
}

func (tx *txn) oldestEnded() (*Build, bool) {
	it := tx.builds.Root().Iterator()
	for _, b, ok := it.Next(); ok; _, b, ok = it.Next() {
		if b.Status.Terminal() {
			return b, true
		}
	}
	return nil, false
}
