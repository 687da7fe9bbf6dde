package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// Options say what to run.
type Options struct {
	Seed  uint64
	Trace io.Writer // told what happens, a line each; nil for silence
	Bugs  Bugs

	// Faults is how long faults go on; 0 is DefaultFaults. Calm leaves them out.
	Faults time.Duration
	Calm   bool
}

// DefaultFaults is how long things go wrong in a run, before all is mended.
const DefaultFaults = 45 * time.Second

// Result counts what a run has seen.
type Result struct {
	Events      int
	Entries     int // of the log
	Builds      int // accepted
	Attempts    int
	Terms       uint64
	Losses      int // attempts whose node was declared lost
	Requeued    int // attempts that never began
	Stale       int // reports that were refused
	RanOn       int // on_node_loss: fail attempts that ran on where the process was down, or just back
	Expired     int // attempts that a node ended itself since its lease ran out
	Quarantined int // jobs that have lost two nodes
	Retried     int // attempts that ended for the infrastructure's causes, and were tried again
	Held        int // jobs that waited for a person
	Skipped     int
	Replaced    int           // jobs that gave way to a newer build
	TimedOut    int           // attempts that the leader declared over
	Fired       int           // builds that the clock started
	Took        time.Duration // virtual
}

func (r *Result) add(o Result) {
	r.Events += o.Events
	r.Entries += o.Entries
	r.Builds += o.Builds
	r.Attempts += o.Attempts
	r.Terms += o.Terms
	r.Losses += o.Losses
	r.Requeued += o.Requeued
	r.Stale += o.Stale
	r.RanOn += o.RanOn
	r.Expired += o.Expired
	r.Quarantined += o.Quarantined
	r.Retried += o.Retried
	r.Held += o.Held
	r.Skipped += o.Skipped
	r.Replaced += o.Replaced
	r.TimedOut += o.TimedOut
	r.Fired += o.Fired
	r.Took += o.Took
}

// Failure is returned when an invariant does not hold.
type Failure struct {
	Seed uint64
	At   time.Duration // virtual
	What string
}

// Error says what to run to see it again.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, after %s: %s\nreplay: go test ./internal/sim -run TestSeeds -seed %d -v", f.Seed, f.At, f.What, f.Seed)
}

const (
	beatEvery = link.DefaultBeat
	suspect   = link.DefaultSuspect
	lost      = link.DefaultLost
	// lease is how long a node runs on what must not run twice without a leader's
	// word; grace and fenceGrace are from TERM to KILL; staleMax is how long a
	// deposed leader may not know it. lease and fenceGrace, with clocks of
	// different rates, must stay below lost less staleMax: what is left is what
	// the promise of on_node_loss: fail stands on.
	lease      = 12 * time.Second
	grace      = 10 * time.Second
	fenceGrace = 2 * time.Second
	staleMax   = 900 * time.Millisecond
)

// world is one run.
type world struct {
	opt     Options
	rng     *rand.Rand
	now     time.Duration
	agenda  agenda
	planned uint64

	members  []*member
	cut      cuts
	streams  []*stream
	raft     raft
	clients  clients
	check    check
	result   Result
	failure  *Failure
	mended   bool // faults are over
	faults   []func(*member)
	departed []fsm.NodeID
	patient  bool // few faults, long jobs
}

// member is a machine, and the narwhal process on it.
type member struct {
	w  *world
	id fsm.NodeID

	up        bool // the process runs
	gen       int  // counts its starts; it is the incarnation too
	upSince   time.Duration
	downSince time.Duration
	dead      bool // it never comes back
	rate      float64
	wallOff   time.Duration
	armed     string // the point at which it is killed next
	room      pipeline.Resources

	voter  *voter // nil where it does not vote
	claims bool   // it believes that it leads
	lead   *term  // open while it dispatches
	queue  []call // commands that wait to be joined
	disk   disk
	node   *nodeRunner // nil while the process is down
}

// Run runs a cluster through its faults and back to rest. The error is a
// *Failure.
func Run(opt Options) (Result, error) {
	if opt.Faults == 0 {
		opt.Faults = DefaultFaults
	}
	w := &world{opt: opt, cut: make(cuts), rng: rand.New(rand.NewPCG(opt.Seed, 0x6e617277))}
	w.check = newCheck(w)
	w.chooseFaults()
	w.found()
	w.clients.begin(w)
	w.after(time.Second, w.check.tick)
	if !opt.Calm {
		w.after(w.between(time.Second, 3*time.Second), w.fault)
	}
	w.after(opt.Faults, w.mend)
	w.until(func() bool { return w.mended })
	w.until(w.atRest)
	if w.failure == nil {
		w.check.end()
	}
	w.result.Took, w.result.Terms, w.result.Entries = w.now, w.raft.term, len(w.raft.log)
	if w.failure != nil {
		return w.result, w.failure
	}
	return w.result, nil
}

// patience is how long after the last fault all must have come to an end.
const patience = 30 * time.Minute

func (w *world) until(done func() bool) {
	for w.failure == nil && len(w.agenda) > 0 && !done() {
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		w.result.Events++
		e.run()
		if w.now > w.opt.Faults+patience {
			return // check.end says what is not at rest
		}
	}
}

// fail notes the first invariant that does not hold; the run ends with it.
func (w *world) fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = &Failure{Seed: w.opt.Seed, At: w.now, What: fmt.Sprintf(format, args...)}
		w.logf("FAIL %s", w.failure.What)
	}
}

func (w *world) logf(format string, args ...any) {
	if w.opt.Trace != nil {
		fmt.Fprintf(w.opt.Trace, "%9.3fs ", w.now.Seconds())
		fmt.Fprintf(w.opt.Trace, format+"\n", args...)
	}
}

// found makes the machines: three voters and up to three more, one of which may
// join late.
func (w *world) found() {
	n := 3 + w.rng.IntN(4)
	for i := range n {
		m := &member{
			w: w, id: fsm.NodeID(fmt.Sprintf("n%d", i+1)), disk: newDisk(),
			rate: 1 + (w.rng.Float64()-0.5)/500, // at most 0.1 % fast or slow
			room: pipeline.Resources{CPU: 2000 + 1000*w.rng.Int64N(3), Memory: 4 << 30},
		}
		if i < 3 {
			m.voter = &voter{m: m, state: fsm.New()}
		}
		w.members = append(w.members, m)
		if i == n-1 && i >= 3 {
			w.after(w.between(0, w.opt.Faults), m.start)
			continue
		}
		m.start()
	}
	w.electSoon()
}

// start starts the member's process.
func (m *member) start() {
	if m.up || m.dead {
		return
	}
	m.up, m.upSince = true, m.w.now
	m.gen++
	m.w.logf("%s starts, incarnation %d", m.id, m.gen)
	if m.voter != nil {
		m.voter.restart()
	}
	m.node = newRunner(m)
	m.node.begin()
}

// kill ends the process at once; what it has in memory is lost, containers run on.
func (m *member) kill(why string) {
	if !m.up {
		return
	}
	m.w.logf("%s is killed (%s)", m.id, why)
	m.up, m.armed, m.downSince = false, "", m.w.now
	if m.w.chance(0.5) {
		m.disk.forget()
	}
	m.claims, m.lead, m.queue = false, nil, nil
	m.node = nil
	m.w.raft.memberDown(m)
	m.w.dropStreams(m, m.w.between(time.Millisecond, 50*time.Millisecond))
}

// crash takes the machine down, containers and all. Its peers hear nothing.
func (m *member) crash() {
	m.w.logf("%s loses power", m.id)
	m.disk.powerOff()
	if m.up {
		m.up, m.armed, m.downSince = false, "", m.w.now
		m.disk.forget()
		m.claims, m.lead, m.queue = false, nil, nil
		m.node = nil
		m.w.raft.memberDown(m)
		m.w.breakStreams(m)
		m.w.dropStreams(m, m.w.between(10*time.Second, 15*time.Second))
	}
}

// point is a place where a member may be killed on purpose, or cut off from the
// leader with its next message. It reports whether it was killed.
func (m *member) point(name string) bool {
	if m.armed != name {
		return false
	}
	if m.w.chance(0.3) {
		m.armed = ""
		m.w.cutFromLeader(m)
		return false
	}
	m.kill("at: " + name)
	m.w.after(m.w.between(200*time.Millisecond, 5*time.Second), m.start)
	return true
}
