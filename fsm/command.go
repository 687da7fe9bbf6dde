package fsm

import (
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// Command is one change of the state. Exactly one of its pointers is set.
// Applying a command twice changes nothing the second time: each carries an
// identity, and the ones that report on an attempt carry its token.
//
// A field's number is its name on the wire: never use one again. A node that
// meets a number it does not know stops with ErrUpgrade, it never skips one.
type Command struct {
	At time.Time `cbor:"1,keyasint"` // the proposer's clock; Apply never lets time go back

	AddBuild      *AddBuild      `cbor:"2,keyasint,omitempty"`
	AssignJob     *AssignJob     `cbor:"3,keyasint,omitempty"`
	StartAttempt  *StartAttempt  `cbor:"4,keyasint,omitempty"`
	FinishAttempt *FinishAttempt `cbor:"5,keyasint,omitempty"`
	LoseAttempt   *LoseAttempt   `cbor:"6,keyasint,omitempty"`
	CancelBuild   *CancelBuild   `cbor:"7,keyasint,omitempty"`
	UpsertNode    *UpsertNode    `cbor:"8,keyasint,omitempty"`
	DrainNode     *DrainNode     `cbor:"9,keyasint,omitempty"`
	RemoveNode    *RemoveNode    `cbor:"10,keyasint,omitempty"`
	SetSinks      *SetSinks      `cbor:"11,keyasint,omitempty"`
	AckEvents     *AckEvents     `cbor:"12,keyasint,omitempty"`
	RaiseEpoch    *RaiseEpoch    `cbor:"13,keyasint,omitempty"`
	SetSecret     *SetSecret     `cbor:"14,keyasint,omitempty"`
	RemoveSecret  *RemoveSecret  `cbor:"15,keyasint,omitempty"`
	DecideJob     *DecideJob     `cbor:"16,keyasint,omitempty"`
	ExpireAttempt *ExpireAttempt `cbor:"17,keyasint,omitempty"`
	FireSchedule  *FireSchedule  `cbor:"18,keyasint,omitempty"`
	SaveCache     *SaveCache     `cbor:"19,keyasint,omitempty"`
	UseCache      *UseCache      `cbor:"20,keyasint,omitempty"`
	DropCache     *DropCache     `cbor:"21,keyasint,omitempty"`
	SealLog       *SealLog       `cbor:"22,keyasint,omitempty"`
	DecideStep    *DecideStep    `cbor:"23,keyasint,omitempty"`
	DropSchedules *DropSchedules `cbor:"30,keyasint,omitempty"`
	RehomeBlob    *RehomeBlob    `cbor:"29,keyasint,omitempty"`
	MoveAttempt   *MoveAttempt   `cbor:"31,keyasint,omitempty"`
	SeeHeads      *SeeHeads      `cbor:"35,keyasint,omitempty" since:"2"`
	RaiseVersion  *RaiseVersion  `cbor:"36,keyasint,omitempty" since:"2"`
}

// AddBuild accepts a commit. Result.Build is the new build, or the one that its
// key has already made (Result.Known).
type AddBuild struct {
	Key     string  `json:"key"` // Commit.Key(), or a client's own for builds started by hand
	Commit  Commit  `json:"commit"`
	RetryOf BuildID `json:"retry_of,omitempty"`
	// Inputs are not known to be the file's until it is planned.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Missed says that nobody told of the push: a look at its remote has found it.
	Missed bool `json:"missed,omitempty" since:"2"`
}

// AssignJob places a queued job on a node. Refused with ErrNotQueued,
// ErrUnknownNode, ErrNodeChanged, ErrNoRoom or ErrGroupFull.
type AssignJob struct {
	Job         JobID  `json:"job"`
	N           int    `json:"n"` // the new attempt's number: the last one's plus 1
	Node        NodeID `json:"node"`
	Incarnation uint64 `json:"incarnation"`
}

// StartAttempt is the node's word that the attempt is on its disk and runs, and which
// of its steps wait for a person by now: it is said again whenever that changes.
type StartAttempt struct {
	Ref     AttemptRef `json:"ref"`
	Waiting []string   `json:"waiting,omitempty"` // names of steps
}

// FinishAttempt is the node's word on how the attempt ended.
type FinishAttempt struct {
	Ref     AttemptRef `json:"ref"`
	Outcome Outcome    `json:"outcome"`
}

// Outcome is how an attempt ended.
type Outcome struct {
	Status   Status       `json:"status"` // terminal
	Cause    Cause        `json:"cause,omitempty"`
	ExitCode int          `json:"exit_code,omitempty"`
	Message  string       `json:"message,omitempty"`
	Steps    []StepResult `json:"steps,omitempty"`
	LogBytes int64        `json:"log_bytes,omitempty"`

	PeakMemory int64         `json:"peak_memory,omitempty"` // bytes, of all its containers; 0 where it isn't known
	CPUTime    time.Duration `json:"cpu_time,omitempty"`    // of its steps
	Tests      *TestReport   `json:"tests,omitempty"`
	Artifacts  *Artifacts    `json:"artifacts,omitempty"`

	// Plan is what a plan job brings: the build's jobs. Set with Passed only.
	Plan *pipeline.Pipeline `json:"plan,omitempty"`
	// Packed is the same in the log where it is large, see pipeline.Pack. Who applies
	// the entry finds it in Plan.
	Packed []byte `json:"packed,omitempty"`
	// Text is what the commit says of itself, with a plan, where who told of it did not.
	Text *CommitText `json:"text,omitempty" since:"2"`
}

// CommitText is what a commit says of itself.
type CommitText struct {
	Message string `json:"message,omitempty"` // its first line
	Author  string `json:"author,omitempty"`
}

// LoseAttempt declares that an attempt's node is gone, or knows nothing of it.
type LoseAttempt struct {
	Ref     AttemptRef `json:"ref"`
	Message string     `json:"message"`
	// NeverStarted says that the node has no record of the attempt, and so never
	// began it: the job is queued again and no loss is counted.
	NeverStarted bool `json:"never_started,omitempty"`
}

// CancelBuild ends a build: what waits is canceled, what runs is told to stop.
type CancelBuild struct {
	Build BuildID `json:"build"`
	By    string  `json:"by"`
}

// UpsertNode records what a node offers. A new incarnation or another capacity
// does not touch what is placed on it.
type UpsertNode struct {
	Node Node `json:"node"`
}

// DrainNode stops or resumes giving a node new jobs. The last word counts, also on the
// deadline.
type DrainNode struct {
	Node  NodeID `json:"node"`
	Drain bool   `json:"drain"`
	By    string `json:"by"`
	// Until is when what still runs there is moved; zero is never.
	Until time.Time `json:"until,omitzero"`
}

// MoveAttempt has a node stop an attempt because the node is to be empty: when it has
// stopped, the job is queued again, or ended where it may not run twice. What ends by
// itself before is not moved.
type MoveAttempt struct {
	Ref AttemptRef `json:"ref"`
}

// RemoveNode forgets a node that has left. Its attempts must have been lost
// before: refused with ErrNodeBusy.
type RemoveNode struct {
	Node NodeID `json:"node"`
}

// SetSinks says who wants to hear of transitions. Without a sink the outbox
// stays empty.
type SetSinks struct {
	Events bool `json:"events"` // the AMQP exchange narwhal.events
}

// AckEvents drops the outbox's events up to and including Seq: they are out.
type AckEvents struct {
	Seq uint64 `json:"seq"`
}

// RaiseEpoch makes all fence tokens from here on larger than those before. The
// leader does so after the cluster was recovered from one node: log entries that
// only the others had are gone, and their indexes are given out again.
type RaiseEpoch struct {
	Epoch uint64 `json:"epoch"` // lower ones change nothing
}

// RaiseVersion says that every node that holds the log can apply entries of a state
// version: what is done since that version on entries of before, such as to note where a
// push has brought its ref, is done from here on, on all nodes alike.
type RaiseVersion struct {
	Version uint `json:"version"` // lower ones change nothing
}

// SetSecret keeps a secret, in the place of the one of the same repository and
// name.
type SetSecret struct {
	Secret Secret `json:"secret"`
}

// RemoveSecret forgets a secret. One that is not there is no error.
type RemoveSecret struct {
	Repo string `json:"repo,omitempty"`
	Name string `json:"name"`
	By   string `json:"by,omitempty"`
}

// DecideJob is a person's word on a job that is Held: it is queued, or ends as
// Canceled with CauseRejected. Refused with ErrNotHeld.
type DecideJob struct {
	Job     JobID  `json:"job"`
	Approve bool   `json:"approve"`
	By      string `json:"by"`
}

// DecideStep is a person's word on a step that is manual, of the attempt that the job
// has now. It may come before the step's turn; the first word counts. Refused with
// ErrNotPlaced, ErrJobEnded, ErrNoStep, ErrNotManual, or ErrDecided where the first
// word was another one.
type DecideStep struct {
	Job     JobID  `json:"job"`
	Step    string `json:"step"`        // all of that name
	N       int    `json:"n,omitempty"` // the attempt that was decided on; 0 is the current one
	Approve bool   `json:"approve"`
	By      string `json:"by"`
}

// ExpireAttempt declares that an attempt's time is up though its node has not said
// so: it ends as Failed with CauseTimeout.
type ExpireAttempt struct {
	Ref     AttemptRef `json:"ref"`
	Message string     `json:"message"`
}

// FireSchedule deals with a time of the clock: it starts the schedule's build and
// notes the time, once. A time that was dealt with, or a schedule that is not there
// any more, changes nothing and is no error.
type FireSchedule struct {
	Repo   string            `json:"repo"`
	Branch string            `json:"branch"`
	Spec   pipeline.Schedule `json:"spec"`
	Due    time.Time         `json:"due"`
}

// DropSchedules forgets a branch's schedules: it is there no more, or the clock is to
// leave it alone. Its commits that are known and not planned yet bring none either; the
// next one on the branch does.
type DropSchedules struct {
	Repo   string `json:"repo"`
	Branch string `json:"branch"`
	By     string `json:"by"`
}

// SeeHeads notes what a look at a remote has shown. Each head counts only where the state
// still has the SHA that it was compared with: a push that was told of meanwhile is newer.
// A look at a remote that is not known, or has another URL by now, changes nothing.
type SeeHeads struct {
	Repo     string     `json:"repo"`
	CloneURL string     `json:"clone_url"`
	Heads    []SeenHead `json:"heads,omitempty"`
	Done     bool       `json:"done,omitempty"` // with the last of them
}

// SeenHead is a ref as a look at its remote has shown it. Of a branch that is there no
// more the schedules go too.
type SeenHead struct {
	Ref string `json:"ref"`
	Was string `json:"was,omitempty"` // in the state that it was compared with; empty for none
	SHA string `json:"sha,omitempty"` // empty: it is there no more
}

// SaveCache keeps a cache. A key that is there in the scope stays as it is.
type SaveCache struct {
	Entry CacheEntry `json:"entry"`
}

// UseCache notes that a cache was restored, for the order in which they go.
type UseCache struct {
	Repo  string `json:"repo"`
	Scope string `json:"scope"`
	Key   string `json:"key"`
}

// DropCache forgets a cache whose blob no node has any more.
type DropCache struct {
	Repo   string `json:"repo"`
	Scope  string `json:"scope"`
	Key    string `json:"key"`
	Digest string `json:"digest"`
}

// SealLog says where the whole log of an attempt that has ended can be had. Where two
// nodes have one, the longer counts: the other's is a copy that was cut short. Refused
// with ErrNotEnded, or ErrStale where the attempt is not known.
type SealLog struct {
	Ref   AttemptRef `json:"ref"`
	Bytes int64      `json:"bytes"` // of the log as it was written
	Log   Blob       `json:"log"`   // zstd
}

// RehomeBlob says who holds a blob by now. What is not there any more, or is another
// blob by now, stays as it is and is no error.
type RehomeBlob struct {
	Ref     BlobRef  `json:"ref"`
	Digest  string   `json:"digest"`
	Holders []NodeID `json:"holders"`
}

// Result is Apply's answer to one command. Err is one of the sentinels in
// errors.go; then nothing was changed.
type Result struct {
	Index uint64  // the log entry's
	Build BuildID // AddBuild
	Known bool    // AddBuild: the key was known, Build is what it made before
	Err   error
}
