package fsm

import (
	"fmt"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Apply makes the state that follows on s when the log entry at index, of a leader's
// term, with its commands in order, is applied. It answers each command with a Result; a
// command that is refused changes nothing and does not keep the others back.
//
// It is deterministic: the same state and entry give the same state on every
// node. The time is the commands'.
func Apply(s *State, index, term uint64, commands []Command) (*State, []Result) {
	tx := begin(s, index)
	tx.term = term
	results := make([]Result, len(commands))
	for i := range commands {
		tx.advance(commands[i].At)
		results[i] = tx.apply(&commands[i])
		results[i].Index = index
	}
	return tx.commit(), results
}

// txn is a state in the making. It exists only within one call of Apply.
type txn struct {
	State  // scalars; its trees are replaced by commit
	builds *iradix.Txn[*Build]
	jobs   *iradix.Txn[*Job]
	nodes  *iradix.Txn[*Node]
	keys   *iradix.Txn[BuildID]
	outbox *iradix.Txn[Transition]
	live   *iradix.Txn[struct{}]
	queued *iradix.Txn[*Job]
	placed *iradix.Txn[*Job]
	groups *iradix.Txn[*Job]

	secrets   *iradix.Txn[*Secret]
	caches    *iradix.Txn[*CacheEntry]
	schedules *iradix.Txn[*Schedule]
	deeds     *iradix.Txn[*Deed]
	timelines *iradix.Txn[*timeline]
	remotes   *iradix.Txn[*Remote]
	heads     *iradix.Txn[*Head]

	term  uint64
	drawn map[BuildID]*timeline // those in timelines that nobody reads yet
}

func begin(s *State, index uint64) *txn {
	tx := &txn{
		State:  *s,
		builds: s.builds.Txn(),
		jobs:   s.jobs.Txn(),
		nodes:  s.nodes.Txn(),
		keys:   s.keys.Txn(),
		outbox: s.outbox.Txn(),
		live:   s.live.Txn(),
		queued: s.queued.Txn(),
		placed: s.placed.Txn(),
		groups: s.groups.Txn(),

		secrets:   s.secrets.Txn(),
		caches:    s.caches.Txn(),
		schedules: s.schedules.Txn(),
		deeds:     s.deeds.Txn(),
		timelines: s.timelines.Txn(),
		remotes:   s.remotes.Txn(),
		heads:     s.heads.Txn(),
	}
	tx.index = index
	return tx
}

func (tx *txn) commit() *State {
	s := tx.State
	s.builds = tx.builds.CommitOnly()
	s.jobs = tx.jobs.CommitOnly()
	s.nodes = tx.nodes.CommitOnly()
	s.keys = tx.keys.CommitOnly()
	s.outbox = tx.outbox.CommitOnly()
	s.live = tx.live.CommitOnly()
	s.queued = tx.queued.CommitOnly()
	s.placed = tx.placed.CommitOnly()
	s.groups = tx.groups.CommitOnly()
	s.secrets = tx.secrets.CommitOnly()
	s.caches = tx.caches.CommitOnly()
	s.schedules = tx.schedules.CommitOnly()
	s.deeds = tx.deeds.CommitOnly()
	s.timelines = tx.timelines.CommitOnly()
	s.remotes = tx.remotes.CommitOnly()
	s.heads = tx.heads.CommitOnly()
	return &s
}

// advance lets the state's time follow the proposers' clocks, never back: a new
// leader's clock may be behind the old one's.
func (tx *txn) advance(at time.Time) {
	if at.After(tx.now) {
		tx.now = at
	}
}

func (tx *txn) apply(c *Command) Result {
	switch {
	case c.AddBuild != nil:
		return tx.addBuild(c.AddBuild)
	case c.AssignJob != nil:
		return Result{Err: tx.assignJob(c.AssignJob)}
	case c.StartAttempt != nil:
		return Result{Err: tx.startAttempt(c.StartAttempt)}
	case c.FinishAttempt != nil:
		return Result{Err: tx.finishAttempt(c.FinishAttempt)}
	case c.LoseAttempt != nil:
		return Result{Err: tx.loseAttempt(c.LoseAttempt)}
	case c.CancelBuild != nil:
		return Result{Err: tx.cancelBuild(c.CancelBuild)}
	case c.DecideJob != nil:
		return Result{Err: tx.decideJob(c.DecideJob)}
	case c.DecideStep != nil:
		return Result{Err: tx.decideStep(c.DecideStep)}
	case c.ExpireAttempt != nil:
		return Result{Err: tx.expireAttempt(c.ExpireAttempt)}
	case c.MoveAttempt != nil:
		return Result{Err: tx.moveAttempt(c.MoveAttempt)}
	case c.FireSchedule != nil:
		return tx.fireSchedule(c.FireSchedule)
	case c.UpsertNode != nil:
		return Result{Err: tx.upsertNode(c.UpsertNode)}
	case c.DrainNode != nil:
		return Result{Err: tx.drainNode(c.DrainNode)}
	case c.RemoveNode != nil:
		return Result{Err: tx.removeNode(c.RemoveNode)}
	case c.SetSinks != nil:
		return Result{Err: tx.setSinks(c.SetSinks)}
	case c.AckEvents != nil:
		return Result{Err: tx.ackEvents(c.AckEvents)}
	case c.RaiseEpoch != nil:
		tx.raiseEpoch(c.RaiseEpoch)
		return Result{}
	default:
		return Result{Err: tx.applyStore(c)}
	}
}

// applyStore is apply for what is kept beside builds and nodes.
func (tx *txn) applyStore(c *Command) error {
	switch {
	case c.SetSecret != nil:
		return tx.setSecret(c.SetSecret)
	case c.RemoveSecret != nil:
		return tx.removeSecret(c.RemoveSecret)
	case c.SaveCache != nil:
		return tx.saveCache(c.SaveCache)
	case c.UseCache != nil:
		return tx.useCache(c.UseCache)
	case c.DropCache != nil:
		return tx.dropCache(c.DropCache)
	case c.SealLog != nil:
		return tx.sealLog(c.SealLog)
	case c.DropSchedules != nil:
		return tx.dropSchedules(c.DropSchedules)
	case c.RehomeBlob != nil:
		return tx.rehomeBlob(c.RehomeBlob)
	case c.RaiseVersion != nil:
		tx.version = max(tx.version, c.RaiseVersion.Version)
		return nil
	case c.SeeHeads != nil:
		return tx.seeHeads(c.SeeHeads)
	default:
		return fmt.Errorf("%w: it is empty", ErrInvalid)
	}
}
