package fsm

import (
	"iter"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// DefaultHistory is how many ended builds are kept, unless State says otherwise.
const DefaultHistory = 10_000

// State is everything that survives a node. It is immutable: Apply makes a new
// one. All methods may be called from any goroutine, and what they return must
// not be changed.
type State struct {
	index   uint64    // of the last log entry in it
	now     time.Time // the latest At seen: time in the state never goes back
	epoch   uint64    // the first part of fence tokens; RaiseEpoch lifts it
	history int       // how many ended builds are kept
	version uint      // see Version
	ended   int       // how many there are

	nextBuild BuildID
	sinks     SetSinks
	nextEvent uint64 // Seq of the next transition
	waiting   int    // transitions in the outbox
	dropped   uint64 // transitions that the full outbox lost
	cached    int    // caches
	nextDeed  uint64 // Seq of the audit log's next line

	remoteCount, headCount int

	builds *iradix.Tree[*Build]     // by BuildID
	jobs   *iradix.Tree[*Job]       // by JobID
	nodes  *iradix.Tree[*Node]      // by NodeID
	keys   *iradix.Tree[BuildID]    // by Build.Key
	outbox *iradix.Tree[Transition] // by Seq

	secrets   *iradix.Tree[*Secret]     // by repository and name
	caches    *iradix.Tree[*CacheEntry] // by repository, scope and key
	schedules *iradix.Tree[*Schedule]   // by repository, branch and spec
	deeds     *iradix.Tree[*Deed]       // the audit log, by Seq
	timelines *iradix.Tree[*timeline]   // by BuildID
	remotes   *iradix.Tree[*Remote]     // by repository
	heads     *iradix.Tree[*Head]       // by repository and ref

	// Indexes, made anew by Restore. Each holds what its name says and no more.
	live   *iradix.Tree[struct{}] // builds that have not ended, by BuildID
	queued *iradix.Tree[*Job]     // jobs with status Queued, by JobID
	placed *iradix.Tree[*Job]     // jobs that lie on a node, by node and JobID
	groups *iradix.Tree[*Job]     // jobs of a concurrency group that have not ended, by group and JobID
}

// New is the state before the first entry.
func New() *State { return NewKeeping(DefaultHistory) }

// NewKeeping is New for a state that keeps that many builds that have ended. Its
// snapshot says so, and so does who restores it.
func NewKeeping(builds int) *State {
	return &State{
		history:   builds,
		version:   1,
		nextBuild: 1,
		nextEvent: 1,
		nextDeed:  1,
		builds:    iradix.New[*Build](),
		jobs:      iradix.New[*Job](),
		nodes:     iradix.New[*Node](),
		keys:      iradix.New[BuildID](),
		outbox:    iradix.New[Transition](),
		live:      iradix.New[struct{}](),
		queued:    iradix.New[*Job](),
		placed:    iradix.New[*Job](),
		groups:    iradix.New[*Job](),
		secrets:   iradix.New[*Secret](),
		caches:    iradix.New[*CacheEntry](),
		schedules: iradix.New[*Schedule](),
		deeds:     iradix.New[*Deed](),
		timelines: iradix.New[*timeline](),
		remotes:   iradix.New[*Remote](),
		heads:     iradix.New[*Head](),
	}
}

// Index is the log index of the last entry that the state holds.
func (s *State) Index() uint64 { return s.index }

// Now is the latest time that a command brought.
func (s *State) Now() time.Time { return s.now }

// Epoch is the first part of every fence token: the cluster's generation.
func (s *State) Epoch() uint64 { return s.epoch }

// Build finds a build.
func (s *State) Build(id BuildID) (*Build, bool) { return s.builds.Get(id.key()) }

// BuildByKey finds the build that a key made.
func (s *State) BuildByKey(key string) (*Build, bool) {
	id, ok := s.keys.Get([]byte(key))
	if !ok {
		return nil, false
	}
	return s.Build(id)
}

// Builds yields builds from the newest to the oldest, starting below before;
// 0 starts at the newest.
func (s *State) Builds(before BuildID) iter.Seq[*Build] {
	return func(yield func(*Build) bool) {
		it := s.builds.Root().ReverseIterator()
		if before > 0 {
			it.SeekReverseLowerBound((before - 1).key())
		}
		for {
			_, b, ok := it.Previous()
			if !ok || !yield(b) {
				return
			}
		}
	}
}

// LiveBuilds counts the builds that have not ended.
func (s *State) LiveBuilds() int { return s.live.Len() }

// BuildCount counts all builds that are kept.
func (s *State) BuildCount() int { return s.builds.Len() }

// Job finds a job.
func (s *State) Job(id JobID) (*Job, bool) { return s.jobs.Get(id.key()) }

// Jobs yields a build's jobs in their order, the plan first.
func (s *State) Jobs(build BuildID) iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		it := s.jobs.Root().Iterator()
		it.SeekPrefix(build.key())
		eachJob(it, yield)
	}
}

// Queued yields the jobs that wait for a node, the oldest build's first.
func (s *State) Queued() iter.Seq[*Job] {
	return func(yield func(*Job) bool) { eachJob(s.queued.Root().Iterator(), yield) }
}

// QueuedCount counts the jobs that wait for a node.
func (s *State) QueuedCount() int { return s.queued.Len() }

// Placed yields the jobs that lie on a node.
func (s *State) Placed(node NodeID) iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		it := s.placed.Root().Iterator()
		it.SeekPrefix(placedPrefix(node))
		eachJob(it, yield)
	}
}

// AllPlaced yields the jobs that lie on any node, node by node.
func (s *State) AllPlaced() iter.Seq[*Job] {
	return func(yield func(*Job) bool) { eachJob(s.placed.Root().Iterator(), yield) }
}

// PlacedCount counts the jobs that lie on a node.
func (s *State) PlacedCount() int { return s.placed.Len() }

// Node finds a node.
func (s *State) Node(id NodeID) (*Node, bool) { return s.nodes.Get([]byte(id)) }

// Nodes yields all nodes by their ID.
func (s *State) Nodes() iter.Seq[*Node] { return values(s.nodes) }

// Sinks says who wants to hear of transitions.
func (s *State) Sinks() SetSinks { return s.sinks }

// Outbox yields the transitions after seq that have not been acknowledged.
func (s *State) Outbox(after uint64) iter.Seq[Transition] {
	return func(yield func(Transition) bool) {
		it := s.outbox.Root().Iterator()
		it.SeekLowerBound(seqKey(after + 1))
		for _, t, ok := it.Next(); ok && yield(t); _, t, ok = it.Next() {
		}
	}
}

// OutboxLen counts the transitions that wait, and those that a full outbox lost.
func (s *State) OutboxLen() (waiting int, dropped uint64) { return s.waiting, s.dropped }

// values yields what a tree holds, in the order of its keys.
func values[T any](tree *iradix.Tree[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		it := tree.Root().Iterator()
		for _, v, ok := it.Next(); ok && yield(v); _, v, ok = it.Next() {
		}
	}
}

func eachJob(it *iradix.Iterator[*Job], yield func(*Job) bool) {
	for _, j, ok := it.Next(); ok && yield(j); _, j, ok = it.Next() {
	}
}

func seqKey(seq uint64) []byte { return BuildID(seq).key() }
