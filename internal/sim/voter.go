package sim

import (
	"bytes"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// voter is a member's copy of the replicated state.
type voter struct {
	m       *member
	state   *fsm.State
	applied int // entries of the log that are in state

	snapshot []byte // on disk
	upTo     int    // entries that the snapshot holds

	slow      time.Duration // how long it is behind, at least
	following bool
}

// restart reads the snapshot that is on disk and replays some of the log; the
// rest comes from the leader.
func (v *voter) restart() {
	w := v.m.w
	v.state, v.applied, v.following = fsm.New(), 0, false
	if v.snapshot != nil {
		v.restore(v.snapshot, v.upTo)
	}
	if n := len(w.raft.log) - v.applied; n > 0 {
		v.advance(v.applied + w.rng.IntN(n+1))
	}
	v.followSoon()
}

func (v *voter) restore(data []byte, upTo int) {
	s, err := fsm.Restore(bytes.NewReader(data))
	if err != nil {
		v.m.w.fail("%s: restore: %v", v.m.id, err)
		return
	}
	v.state, v.applied = s, upTo
	if v.m.w.opt.Bugs.SnapshotAheadOfLog && v.applied < len(v.m.w.raft.log) {
		v.applied++
	}
	v.m.w.check.compare(v.m, v.state, true)
}

// followSoon applies what is committed a little later, as followers do.
func (v *voter) followSoon() {
	if v.following || !v.m.up || v.applied >= len(v.m.w.raft.log) {
		return
	}
	v.following = true
	w := v.m.w
	v.m.after(v.slow+w.between(time.Millisecond, 60*time.Millisecond), func() {
		v.following = false
		l := w.raft.leader
		if l == nil || !w.connected(l, v.m) {
			v.followRetry()
			return
		}
		if l.voter.snapshot != nil && v.applied < l.voter.upTo && w.chance(0.5) {
			w.logf("%s is sent a snapshot of %d entries", v.m.id, l.voter.upTo)
			v.snapshot, v.upTo = l.voter.snapshot, l.voter.upTo
			v.restore(v.snapshot, v.upTo)
		}
		v.advance(len(w.raft.log))
	})
}

func (v *voter) followRetry() {
	v.following = true
	v.m.after(300*time.Millisecond, func() {
		v.following = false
		v.followSoon()
	})
}

// advance applies the log up to and including entry to, and answers with the
// last entry's results.
func (v *voter) advance(to int) []fsm.Result {
	w := v.m.w
	var results []fsm.Result
	for v.applied < to && w.failure == nil {
		data := w.raft.log[v.applied]
		v.applied++
		results = nil
		if data == nil {
			continue
		}
		results = v.apply(uint64(v.applied), data)
		if w.chance(0.03) {
			v.take()
		}
	}
	if v.m.lead != nil {
		v.m.lead.changed()
	}
	return results
}

func (v *voter) apply(index uint64, data []byte) []fsm.Result {
	w := v.m.w
	commands, err := fsm.DecodeEntry(data)
	if err != nil {
		w.fail("%s: entry %d: %v", v.m.id, index, err)
		return nil
	}
	commands = w.opt.Bugs.rewrite(v, index, commands)
	before := v.state
	next, results := fsm.Apply(before, index, 1, commands)
	v.state = next
	w.check.applied(v.m, index, before, next, commands, results)
	return results
}

func (v *voter) take() {
	var buf bytes.Buffer
	if _, err := v.state.WriteTo(&buf); err != nil {
		v.m.w.fail("%s: snapshot: %v", v.m.id, err)
		return
	}
	v.snapshot, v.upTo = buf.Bytes(), v.applied
}
