package fsm

import (
	"iter"
	"time"
)

// Turn is what happened to a build or a job, as its timeline has it. Its number is
// what snapshots hold: never use one again.
type Turn uint8

// The turns.
const (
	TurnAccepted Turn = 1  // the build: its commit is on a majority's disks
	TurnPlanned  Turn = 2  // the build: its jobs are known
	TurnQueued   Turn = 3  // the job waits for a node
	TurnHeld     Turn = 4  // the job waits for a person
	TurnApproved Turn = 5  // a person let it go on
	TurnRejected Turn = 6  // a person ended it, or nobody decided in time
	TurnAssigned Turn = 7  // attempt N was given to a node
	TurnStarted  Turn = 8  // its node confirmed
	TurnFinished Turn = 9  // its node said how it ended
	TurnLost     Turn = 10 // its node is gone
	TurnReturned Turn = 11 // its node never began it
	TurnExpired  Turn = 12 // its time was up, and its node did not say so
	TurnRetried  Turn = 13 // the job is queued once more, after attempt N
	TurnCanceled Turn = 14 // somebody asked for the end
	TurnReplaced Turn = 15 // a newer build asked for the end
	TurnEnded    Turn = 16 // nothing follows
	TurnMoved    Turn = 17 // its node is to be empty: attempt N is to stop, and the job to run elsewhere
)

var turnNames = [...]string{
	TurnAccepted: "accepted", TurnPlanned: "planned", TurnQueued: "queued", TurnHeld: "held", TurnApproved: "approved",
	TurnRejected: "rejected", TurnAssigned: "assigned", TurnStarted: "started", TurnFinished: "finished", TurnLost: "lost",
	TurnReturned: "returned", TurnExpired: "expired", TurnRetried: "retried", TurnCanceled: "canceled",
	TurnReplaced: "replaced", TurnEnded: "ended", TurnMoved: "moved",
}

// String gives the word that people see.
func (t Turn) String() string {
	if int(t) < len(turnNames) {
		return turnNames[t]
	}
	return ""
}

// wholeBuild is the Seq of a mark that is of no single job.
const wholeBuild = ^uint32(0)

// mark is a line of a timeline, in 32 bytes: thousands of builds are kept. Who, where
// and why stand with the build, its jobs and their attempts; Timeline joins them.
type mark struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Term  uint64
	At    int64  // nanoseconds since 1970
	Seq   uint32 // the job's, or wholeBuild
	N     uint16 // the attempt's, 0 where it is of none
	Turn  Turn
}

// timeline is what happened to a build.
type timeline struct {
	_     struct{} `cbor:",toarray"`
	Build BuildID
	Left  uint32 // how many lines are left out, after the first GapAt of Marks
	Marks []mark
}

// maxMarks bounds a build's timeline. Of a longer one the beginning and the end are
// kept: how it came here and what it came to. GapAt is how many lines the beginning is.
const (
	maxMarks = 512
	GapAt    = maxMarks / 2
)

func (t *timeline) add(m mark) {
	if len(t.Marks) == maxMarks {
		copy(t.Marks[GapAt:], t.Marks[GapAt+1:])
		t.Marks = t.Marks[:maxMarks-1]
		t.Left++
	}
	t.Marks = append(t.Marks, m)
}

// mark notes what happened to a job, or to a build where seq is wholeBuild.
func (tx *txn) mark(b BuildID, seq uint32, n int, turn Turn) {
	t, ok := tx.drawn[b]
	if !ok {
		t = &timeline{Build: b}
		if old, kept := tx.timelines.Get(b.key()); kept {
			t.Left = old.Left
			t.Marks = append(make([]mark, 0, len(old.Marks)+4), old.Marks...) // readers hold the old ones
		}
		if tx.drawn == nil {
			tx.drawn = make(map[BuildID]*timeline)
		}
		tx.drawn[b] = t
		tx.timelines.Insert(b.key(), t)
	}
	t.add(mark{Index: tx.index, Term: tx.term, At: tx.now.UnixNano(), Seq: seq, N: uint16(min(n, 1<<16-1)), Turn: turn})
}

func (tx *txn) markBuild(b *Build, turn Turn) { tx.mark(b.ID, wholeBuild, 0, turn) }

func (tx *txn) markJob(j *Job, turn Turn) { tx.mark(j.ID.Build, j.ID.Seq, 0, turn) }

// markAttempt notes what happened to a job's current attempt.
func (tx *txn) markAttempt(j *Job, turn Turn) { tx.mark(j.ID.Build, j.ID.Seq, len(j.Attempts), turn) }

// markStop notes that somebody, or a newer build, asked for the end.
func (tx *txn) markStop(b BuildID, seq uint32, replaced BuildID) {
	turn := TurnCanceled
	if replaced != 0 {
		turn = TurnReplaced
	}
	tx.mark(b, seq, 0, turn)
}

// forgetTimeline goes with its build.
func (tx *txn) forgetTimeline(b BuildID) {
	tx.timelines.Delete(b.key())
	delete(tx.drawn, b)
}

// LastTerm is the highest term that timelines and the audit log tell of; 0 where they
// are empty. A log that is made anew around the state has to go on from it.
func (s *State) LastTerm() uint64 {
	term := uint64(0)
	it := s.timelines.Root().Iterator()
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		term = max(term, t.Marks[len(t.Marks)-1].Term)
	}
	for d := range s.Deeds(0) { // the newest first
		return max(term, d.Term)
	}
	return term
}

// Moment is a line of a build's timeline: a transition of the build, or of one of its
// jobs.
type Moment struct {
	Index      uint64    // of the log entry that brought it
	Term       uint64    // of that entry: another one is another leader's
	At         time.Time // the proposer's clock
	Turn       Turn
	Job        *Job // nil where it is of the build as a whole
	N          int  // the attempt's, 0 where it is of none
	Node       NodeID
	Status     Status // what it came to, with TurnEnded and the ends of attempts
	Cause      Cause
	Message    string
	By         string // who asked for it; with TurnAccepted, the event that did
	ReplacedBy BuildID
}

// Timeline yields what happened to a build, in the order of the log; left lines are
// missing after the first GapAt. A build that was accepted before timelines were kept
// has only what came since, or nothing.
func (s *State) Timeline(b *Build) (left int, moments iter.Seq[Moment]) {
	t, ok := s.timelines.Get(b.ID.key())
	if !ok {
		return 0, func(func(Moment) bool) {}
	}
	return int(t.Left), func(yield func(Moment) bool) {
		for i := range t.Marks {
			if !yield(s.moment(b, &t.Marks[i])) {
				return
			}
		}
	}
}

// moment joins a mark with what the build, its jobs and their attempts hold.
func (s *State) moment(b *Build, m *mark) Moment {
	v := Moment{Index: m.Index, Term: m.Term, At: time.Unix(0, m.At).UTC(), Turn: m.Turn, N: int(m.N)}
	if m.Seq == wholeBuild {
		v.ofBuild(b)
	} else if j, ok := s.Job(JobID{Build: b.ID, Seq: m.Seq}); ok {
		v.ofJob(j)
	}
	return v
}

func (v *Moment) ofBuild(b *Build) {
	switch v.Turn {
	case TurnAccepted:
		v.By = string(b.Commit.Event)
		if b.RetryOf != 0 {
			v.Message = "retry of " + buildName(b.RetryOf)
		}
	case TurnCanceled, TurnReplaced:
		v.By, v.ReplacedBy = b.CanceledBy, b.ReplacedBy
	case TurnEnded:
		v.Status, v.Cause, v.Message = b.Status, b.Cause, b.Message
	}
}

func (v *Moment) ofJob(j *Job) {
	v.Job = j
	if v.N > 0 && v.N <= len(j.Attempts) {
		v.ofAttempt(&j.Attempts[v.N-1])
	}
	switch v.Turn {
	case TurnApproved:
		v.By = j.ApprovedBy
	case TurnRejected:
		v.By, v.Message = j.RejectedBy, j.Message
	case TurnCanceled, TurnReplaced:
		v.By, v.ReplacedBy = j.CanceledBy, j.ReplacedBy
	case TurnEnded:
		v.Status, v.Cause, v.Message = j.Status, j.Cause, j.Message
	}
}

func (v *Moment) ofAttempt(a *Attempt) {
	v.Node = a.Node
	switch v.Turn {
	case TurnFinished, TurnLost, TurnReturned, TurnExpired:
		v.Status, v.Cause, v.Message = a.Status, a.Cause, a.Message
	case TurnRetried:
		v.Cause = a.Cause
	case TurnMoved:
		v.Message = a.Moved
	}
}
