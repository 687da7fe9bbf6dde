package fsm

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// JobKind tells a build's plan from the jobs that the plan brought.
type JobKind string

// The kinds.
const (
	KindPlan JobKind = "plan" // fetch the commit, read narwhal.yml, propose the jobs
	KindRun  JobKind = "run"  // run the steps
)

// PlanName is the name under which a build's plan is shown.
const PlanName = "plan"

// Job is the unit of placement: one node, one workspace.
type Job struct {
	ID       JobID         `json:"id"`
	Name     string        `json:"name"`
	Kind     JobKind       `json:"kind"`
	Repo     string        `json:"repo"`
	Spec     *pipeline.Job `json:"spec"`            // never changed once it is here
	Needs    []uint32      `json:"needs,omitempty"` // Seq of the jobs it needs
	Priority int           `json:"priority,omitempty"`

	Status   Status    `json:"status"`
	Cause    Cause     `json:"cause,omitempty"`
	Message  string    `json:"message,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"` // the last one is the current one

	// CanceledBy is set once somebody asked for its end; the node that runs it
	// stops it then and says so.
	CanceledBy string `json:"canceled_by,omitempty"`
	// ReplacedBy is set where that was a newer build of its concurrency group.
	ReplacedBy BuildID `json:"replaced_by,omitempty"`
	// ApprovedBy let it go on from Held.
	ApprovedBy string `json:"approved_by,omitempty"`
	// RejectedBy ended it there.
	RejectedBy string `json:"rejected_by,omitempty"`

	NotBefore time.Time `json:"not_before,omitzero"` // a retry waits until then
	QueuedAt  time.Time `json:"queued_at,omitzero"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// Current is the newest attempt; ok is false where there is none.
func (j *Job) Current() (a Attempt, ok bool) {
	if len(j.Attempts) == 0 {
		return Attempt{}, false
	}
	return j.Attempts[len(j.Attempts)-1], true
}

// Losses counts the attempts whose node was lost.
func (j *Job) Losses() int { return j.ended(CauseNodeLost) }

func (j *Job) needs(seq uint32) bool { return slices.Contains(j.Needs, seq) }

func (j *Job) ended(cause Cause) int {
	n := 0
	for _, a := range j.Attempts {
		if a.Status.Terminal() && a.Cause == cause {
			n++
		}
	}
	return n
}

// Attempt is one placement of a job.
type Attempt struct {
	N           int    `json:"n"` // from 1
	Node        NodeID `json:"node"`
	Incarnation uint64 `json:"incarnation"` // the node's start that it was given to
	Token       Token  `json:"token"`

	Status   Status       `json:"status"`
	Cause    Cause        `json:"cause,omitempty"`
	ExitCode int          `json:"exit_code,omitempty"`
	Message  string       `json:"message,omitempty"`
	Steps    []StepResult `json:"steps,omitempty"`
	LogBytes int64        `json:"log_bytes,omitempty"`
	Log      *Blob        `json:"log,omitempty"` // nil until it is sealed: its node, and one that has a copy, have it until then

	PeakMemory int64         `json:"peak_memory,omitempty"` // bytes, of all its containers; 0 where it isn't known
	CPUTime    time.Duration `json:"cpu_time,omitempty"`    // of its steps
	Tests      *TestReport   `json:"tests,omitempty"`
	Artifacts  *Artifacts    `json:"artifacts,omitempty"`

	Moved string `json:"moved,omitempty"` // why its node is to stop it, so that the job runs elsewhere

	Waiting   []string       `json:"waiting,omitempty"`   // steps that wait for a person; none once it has ended
	Decisions []StepDecision `json:"decisions,omitempty"` // on its manual steps, in their order

	AssignedAt time.Time `json:"assigned_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
}

// Ref names the attempt in reports and records.
func (j *Job) Ref(a Attempt) AttemptRef { return AttemptRef{Job: j.ID, N: a.N, Token: a.Token} }

// AttemptRef names an attempt and proves, by its token, that it is meant.
type AttemptRef struct {
	Job   JobID `json:"job"`
	N     int   `json:"n"`
	Token Token `json:"token"`
}

// String gives "42.1#2": job 42.1, attempt 2.
func (r AttemptRef) String() string { return attemptName(r.Job, r.N) }

// StepDecision is a person's word on the steps of a name, for one attempt.
type StepDecision struct {
	Step    string    `json:"step"`
	Approve bool      `json:"approve"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// StepResult is what became of a step.
type StepResult struct {
	Name      string    `json:"name"`
	Status    Status    `json:"status"`
	Cause     Cause     `json:"cause,omitempty"`
	ExitCode  int       `json:"exit_code"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`

	Tries      int           `json:"tries,omitempty"`       // how often it was run; 0 is once, or not at all
	Allowed    bool          `json:"allowed,omitempty"`     // it failed, and may: the job goes on
	PeakMemory int64         `json:"peak_memory,omitempty"` // bytes, of its largest process; 0 where that had no more than its supervisor, whose own peak hides it
	CPUTime    time.Duration `json:"cpu_time,omitempty"`    // user and system, of all its processes that were waited for
}
