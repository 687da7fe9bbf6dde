package sim

import (
	"reflect"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// check holds what has been, and what must not be.
type check struct {
	w       *world
	newest  *fsm.State
	states  map[uint64]*fsm.State // by index, as whoever applied it first made it
	hashes  map[uint64]string
	bySHA   map[string]fsm.BuildID
	ended   map[fsm.BuildID]int
	begun   map[fsm.AttemptRef]fsm.NodeID // containers that were ever started
	truth   map[fsm.AttemptRef]fsm.Outcome
	told    map[fsm.AttemptRef]fsm.Outcome
	refused map[fsm.AttemptRef]bool // what its node told came too late
	running []*container
	fenced  map[fsm.AttemptRef]bool
	loose   map[*container]time.Duration // since when it runs on against the leader's word
	given   map[fsm.AttemptRef]*term     // for the bug WorkOncePerLeader

	approved  map[fsm.JobID]bool // a person has, or is about to
	startedAt map[fsm.AttemptRef]time.Duration
	expired   map[fsm.AttemptRef]bool
	fired     map[firing]fsm.BuildID
	clocked   map[string]int       // builds that the clock has started, by repository
	since     map[string]time.Time // that a repository has a schedule, by the state's time
}

// hashEvery is how often states of an equal index are hashed and compared: what
// differs once goes on differing.
const hashEvery = 16

func newCheck(w *world) check {
	return check{
		w: w, newest: fsm.New(), states: make(map[uint64]*fsm.State), hashes: make(map[uint64]string),
		bySHA: make(map[string]fsm.BuildID), ended: make(map[fsm.BuildID]int),
		begun: make(map[fsm.AttemptRef]fsm.NodeID), truth: make(map[fsm.AttemptRef]fsm.Outcome), told: make(map[fsm.AttemptRef]fsm.Outcome),
		given: make(map[fsm.AttemptRef]*term), refused: make(map[fsm.AttemptRef]bool), fenced: make(map[fsm.AttemptRef]bool), loose: make(map[*container]time.Duration),
		approved: make(map[fsm.JobID]bool), startedAt: make(map[fsm.AttemptRef]time.Duration), expired: make(map[fsm.AttemptRef]bool),
		fired: make(map[firing]fsm.BuildID), since: make(map[string]time.Time), clocked: make(map[string]int),
	}
}

// applied is told of every entry that a voter applies.
func (c *check) applied(m *member, index uint64, before, next *fsm.State, commands []fsm.Command, results []fsm.Result) {
	if c.states[index] != nil {
		c.compare(m, next, index%hashEvery == 0)
		return
	}
	c.states[index], c.newest = next, next
	if err := next.Verify(); err != nil {
		c.w.fail("index %d: %v", index, err)
		return
	}
	for i := range commands {
		c.trace(index, &commands[i], results[i])
		if l := commands[i].LoseAttempt; l != nil && results[i].Err == nil {
			c.lost(before, l)
		}
		if f := commands[i].FinishAttempt; f != nil && results[i].Err == nil {
			c.disowned(before, f)
		}
		if e := commands[i].ExpireAttempt; e != nil && results[i].Err == nil {
			c.expires(before, e)
		}
		if f := commands[i].FireSchedule; f != nil {
			c.fires(index, f, results[i])
		}
	}
	c.groups(index, next)
	c.schedules(next)
	for n := range next.Nodes() {
		if r, has := n.Reserved, n.Capacity; r.CPU > has.CPU || r.Memory > has.Memory || r.Disk > has.Disk {
			if old, ok := before.Node(n.ID); ok && old.Capacity == has {
				c.w.fail("index %d: node %s has %+v, %+v is reserved", index, n.ID, has, r)
			}
		}
	}
	for b := range next.Builds(0) {
		if old, ok := before.Build(b.ID); !ok || old != b {
			c.build(index, old, b)
		}
		for j := range next.Jobs(b.ID) {
			if old, ok := before.Job(j.ID); !ok || old != j {
				c.job(index, old, j)
			}
		}
	}
}

// compare holds a voter's state against the first one of the same index.
func (c *check) compare(m *member, s *fsm.State, now bool) {
	index := s.Index()
	first := c.states[index]
	if first == nil || first == s || !now {
		return
	}
	if c.hashes[index] == "" {
		h, err := first.Hash()
		if err != nil {
			c.w.fail("hash index %d: %v", index, err)
		}
		c.hashes[index] = h
	}
	if h, err := s.Hash(); err != nil || h != c.hashes[index] {
		c.w.fail("%s has another state at index %d than the first that applied it", m.id, index)
	}
}

func (c *check) build(index uint64, old, b *fsm.Build) {
	switch {
	case old == nil && b.Commit.Event == fsm.EventSchedule:
		if c.clocked[b.Commit.Repo]++; c.clocked[b.Commit.Repo] > len(dues()) {
			c.w.fail("index %d: the clock has started %d builds of %s, and it came due %d times", index, c.clocked[b.Commit.Repo], b.Commit.Repo, len(dues()))
		}
	case old == nil && b.RetryOf == 0:
		if was, ok := c.bySHA[b.Commit.SHA]; ok {
			c.w.fail("index %d: commit %s is built twice, as %d and %d", index, b.Commit.SHA, was, b.ID)
		}
		c.bySHA[b.Commit.SHA] = b.ID
	case old != nil && old.Status.Terminal() && !reflect.DeepEqual(old, b):
		c.w.fail("index %d: build %d had ended and has changed: %+v, was %+v", index, b.ID, b, old)
	}
	if b.Status.Terminal() && (old == nil || !old.Status.Terminal()) {
		if c.ended[b.ID]++; c.ended[b.ID] > 1 {
			c.w.fail("index %d: build %d ends a second time", index, b.ID)
		}
	}
}

func (c *check) job(index uint64, old, j *fsm.Job) {
	c.held(index, old, j)
	if old == nil {
		return
	}
	if old.Status.Terminal() && !reflect.DeepEqual(old, j) {
		c.w.fail("index %d: job %s had ended and has changed: %+v, was %+v", index, j.ID, j, old)
		return
	}
	for i, was := range old.Attempts {
		a := j.Attempts[i]
		switch {
		case was.Status.Terminal() && !reflect.DeepEqual(was, a):
			c.w.fail("index %d: attempt %s has a second result: %s %s, was %s %s", index, j.Ref(a), a.Status, a.Cause, was.Status, was.Cause)
		case !was.Status.Terminal() && a.Status.Terminal():
			c.result(index, j, a)
		}
	}
	if len(j.Attempts) > len(old.Attempts) {
		c.w.result.Attempts++
	}
	if j.Status == fsm.Queued && old.Status.Placed() && !j.NotBefore.IsZero() {
		c.w.result.Retried++
	}
	if j.Status.Terminal() && j.Losses() > 1 {
		c.w.result.Quarantined++
	}
	if j.Losses() > 2 {
		c.w.fail("index %d: job %s has lost %d nodes and was not quarantined", index, j.ID, j.Losses())
	}
}

// result holds what counts for an attempt against what its node has seen.
func (c *check) result(index uint64, j *fsm.Job, a fsm.Attempt) {
	if a.Status == fsm.Canceled && a.Cause == "" {
		c.w.result.Requeued++
		return
	}
	if a.Cause == fsm.CauseNodeLost || c.expired[j.Ref(a)] {
		return // lost and expires say what must hold
	}
	o, ok := c.truth[j.Ref(a)]
	if !ok || o.Status != a.Status || o.Cause != a.Cause {
		c.w.fail("index %d: attempt %s on %s counts as %s %s, its node says %q %s", index, j.Ref(a), a.Node, a.Status, a.Cause, o.Status, o.Cause)
	}
}

// lost is told of every LoseAttempt that was taken.
func (c *check) lost(before *fsm.State, l *fsm.LoseAttempt) {
	j, ok := before.Job(l.Ref.Job)
	if !ok {
		return
	}
	a, _ := j.Current()
	if j.Ref(a) != l.Ref || a.Status.Terminal() {
		return
	}
	if l.NeverStarted && a.Status == fsm.Assigned && j.CanceledBy == "" {
		if on, ok := c.begun[l.Ref]; ok {
			c.w.fail("attempt %s is queued again as never begun, but was begun on %s", l.Ref, on)
		}
		return
	}
	c.w.result.Losses++
	at := slices.IndexFunc(c.running, func(r *container) bool { return r.ref == l.Ref })
	if at < 0 || !c.exclusive(l.Ref.Job) {
		return
	}
	m := c.running[at].m
	if m.up && c.w.now-m.upSince > lost+time.Second {
		c.w.fail("attempt %s, on_node_loss: fail, is declared lost and still runs on %s", l.Ref, m.id)
		return
	}
	c.w.result.RanOn++
	c.w.logf("attempt %s, on_node_loss: fail, runs on: the process of %s is down, or was just now", l.Ref, m.id)
}

// disowned is told of every FinishAttempt that was taken: a node says that it has
// lost an attempt only where it was restarted or its lease ran out.
func (c *check) disowned(before *fsm.State, f *fsm.FinishAttempt) {
	j, ok := before.Job(f.Ref.Job)
	if !ok || f.Outcome.Cause != fsm.CauseNodeLost {
		return
	}
	a, _ := j.Current()
	if j.Ref(a) != f.Ref || a.Status.Terminal() || c.fenced[f.Ref] {
		return
	}
	for _, m := range c.w.members {
		if m.id == a.Node && uint64(m.gen) == a.Incarnation {
			c.w.fail("node %s reports %s as lost, and has been there all the time", m.id, f.Ref)
		}
	}
}

// decided is told of every round of a leader before it is submitted: Apply must
// take all of it, on exactly that state.
func (c *check) decided(m *member, s *fsm.State, commands []fsm.Command) {
	for _, cmd := range commands {
		if a := cmd.AssignJob; a != nil && m.raftLeader() {
			c.assigned(a)
		}
	}
	trial := slices.Clone(commands)
	for i := range trial {
		trial[i].At = m.wall()
	}
	_, results := fsm.Apply(s, s.Index()+1, 1, trial)
	for i, r := range results {
		if r.Err != nil {
			c.w.fail("%s proposed %+v for the state of index %d, which refuses it: %v", m.id, deref(trial[i]), s.Index(), r.Err)
		}
	}
}

// assigned is told of every placement that a leader proposes.
func (c *check) assigned(a *fsm.AssignJob) {
	for _, m := range c.w.members {
		if m.id == a.Node && !m.up && c.w.now-m.downSince > suspect+100*time.Millisecond {
			c.w.fail("job %s is placed on %s, which has been silent for %s", a.Job, m.id, c.w.now-m.downSince)
		}
	}
}

func deref(c fsm.Command) any {
	switch {
	case c.AssignJob != nil:
		return *c.AssignJob
	case c.LoseAttempt != nil:
		return *c.LoseAttempt
	}
	return c
}

// worked notes that a leader has described an attempt; it is for a planted bug.
func (c *check) worked(t *term, ref fsm.AttemptRef) bool {
	if c.given[ref] == t {
		return true
	}
	c.given[ref] = t
	return false
}
