package sim

import (
	"fmt"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Bugs are planted faults of the design. Each must be found within some seeds:
// that shows what the checks are worth. A bug that would lie inside fsm or sched
// is emulated by changing what goes in or what comes out.
type Bugs struct {
	// Of the road to the log.
	AckBuildEarly  bool // a delivery is answered when it is submitted, not when it is committed
	NewKeyOnRetry  bool // a client that asks again does so with a new identity
	NoDedupe       bool // a known key makes another build
	NoBarrier      bool // a new leader begins before it has applied what came before
	NeverStepsDown bool // a deposed leader goes on for tens of seconds

	// Of Apply and snapshots.
	NoFence            bool // a result counts for the current attempt, whichever it is of
	CapacityLeaks      bool // what an ended attempt had reserved is not all given back
	UnderReserved      bool // less is reserved than the job takes
	PolicyDropped      bool // on_node_loss: fail is not kept
	ClockInApply       bool // Apply goes by the node's own clock
	CommandSkipped     bool // one node skips a command it does not know
	SnapshotAheadOfLog bool // a restored node believes to have one entry more than it has

	// Of what a file asks for.
	GroupsUnbounded     bool // a concurrency group's limit is not kept
	ReplacesNobody      bool // cancel_in_progress is not kept
	HeldForNobody       bool // a manual job is not held
	AllowedCounts       bool // a failure or error that is allowed fails the build
	SchedulesRepeat     bool // that a time of the clock was dealt with is not noticed
	NothingExpires      bool // a job that hangs is waited for
	TimeoutsByWallClock bool

	// Of the leader.
	LeasesNotRearmed    bool // a new leader waits for nobody: who never comes is never lost
	LeasesByWallClock   bool
	LostAsNeverStarted  bool // an attempt of a lost node is queued as if it had not begun
	NothingForgotten    bool // what a restarted node has not kept is not queued again
	KeptAttemptsUnknown bool // what a node kept of an earlier start is not wanted any more
	AssignWithoutHello  bool // nodes get jobs before they have said hello
	AckReportEarly      bool // reports are acknowledged before they are committed
	WantedOnlyOnce      bool // the set is sent with the stream's start, and not when it changes
	WorkOncePerLeader   bool // what to run is not said again on a new stream

	// Of the node.
	StartBeforeLedger        bool
	StartedAgainAfterRestart bool // an attempt that is gone after a restart is simply started again
	NothingAdopted           bool // a restarted process reports its attempts as gone, they run on
	ReportBeforeDisk         bool // an outcome is told before it is on the disk
	ClosedWhenSent           bool // a report is forgotten when it is sent, not when it is acknowledged
	NotResentOnNewStream     bool // what was not acknowledged is not sent again
	ClosedForgotten          bool // what has been is not remembered
	StaleWishesTrusted       bool // what is not in an older wish is stopped
	SupersededRunsOn         bool
	NoResync                 bool // with WorkOncePerLeader: a missing description is not asked for
	NoSelfFence              bool
	FenceByWallClock         bool
	LeaseFromAnswer          bool // the node's lease counts from when the answer came
}

// rewrite emulates bugs of Apply: it changes what one voter is about to apply.
// Its commands are this voter's own.
func (b *Bugs) rewrite(v *voter, index uint64, commands []fsm.Command) []fsm.Command {
	out := commands
	for i := range commands {
		c := &commands[i]
		if b.ClockInApply {
			c.At = c.At.Add(v.m.wall().Sub(c.At) / time.Second) // a hint of the own clock
		}
		switch {
		case c.AddBuild != nil && b.NoDedupe:
			c.AddBuild.Key = fmt.Sprintf("%s at %d", c.AddBuild.Key, index)
		case c.FireSchedule != nil && b.SchedulesRepeat:
			*c = fireUnnoticed(v, index, c)
		case c.CancelBuild != nil && b.CommandSkipped && v.m.id == "n2":
			c.CancelBuild.Build = 0
		case c.FinishAttempt != nil:
			out = b.rewriteFinish(v, c.FinishAttempt, out)
		}
	}
	return out
}

func (b *Bugs) rewriteFinish(v *voter, f *fsm.FinishAttempt, out []fsm.Command) []fsm.Command {
	j, ok := v.state.Job(f.Ref.Job)
	if !ok {
		return out
	}
	a, _ := j.Current()
	if b.NoFence {
		f.Ref = j.Ref(a)
	}
	if b.CapacityLeaks && a.Status.Placed() {
		if n, ok := v.state.Node(a.Node); ok {
			less := *n
			less.Capacity.CPU -= j.Request().CPU / 4
			out = append(out, fsm.Command{At: v.state.Now(), UpsertNode: &fsm.UpsertNode{Node: less}})
		}
	}
	if p := f.Outcome.Plan; p != nil {
		for i := range p.Jobs {
			if b.UnderReserved {
				p.Jobs[i].Resources.CPU /= 8
			}
			if b.PolicyDropped {
				p.Jobs[i].OnNodeLoss = pipeline.NodeLossRerun
			}
			b.rewriteFormat(&p.Jobs[i])
		}
	}
	return out
}

// fireUnnoticed starts a schedule's build, and nothing else.
func fireUnnoticed(v *voter, index uint64, c *fsm.Command) fsm.Command {
	for s := range v.state.Schedules() {
		if f := c.FireSchedule; s.Repo == f.Repo && s.Last.Before(f.Due) {
			commit := s.Commit
			commit.Event = fsm.EventSchedule
			return fsm.Command{At: c.At, AddBuild: &fsm.AddBuild{Key: fmt.Sprintf("%s at %d", f.Key(), index), Commit: commit}}
		}
	}
	return *c
}

func (b *Bugs) rewriteFormat(j *pipeline.Job) {
	if c := j.Concurrency; c != nil {
		next := *c
		if b.GroupsUnbounded {
			next.Limit = 1000
		}
		next.CancelInProgress = next.CancelInProgress && !b.ReplacesNobody
		j.Concurrency = &next
	}
	j.When.Manual = j.When.Manual && !b.HeldForNobody
	j.AllowFailure = j.AllowFailure && !b.AllowedCounts
	j.AllowErrors = j.AllowErrors && !b.AllowedCounts
}
