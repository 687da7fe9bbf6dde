package fsm

import (
	"iter"
	"time"
)

// Deed is a line of the audit log: what somebody, or the cluster itself, did that is
// more than a step on a build's road.
type Deed struct {
	Seq   uint64    `json:"seq"` // from 1, without a gap
	Index uint64    `json:"index"`
	Term  uint64    `json:"term"`
	At    time.Time `json:"at"`
	Did   Did       `json:"did"`
	By    string    `json:"by"`
	On    string    `json:"on,omitempty"`   // the node's, build's or job's ID, the secret's name, the registry's host, the branch
	Repo  string    `json:"repo,omitempty"` // whose that is; empty where it is everybody's
	// Build is what it is about, or what it made.
	Build BuildID `json:"build,omitempty"`
}

// Did names a deed.
type Did string

// The deeds.
const (
	DidDrain          Did = "node_drained"
	DidResume         Did = "node_resumed"
	DidRemoveNode     Did = "node_removed"
	DidSetSecret      Did = "secret_set"
	DidRemoveSecret   Did = "secret_removed"
	DidSetRegistry    Did = "registry_set"
	DidRemoveRegistry Did = "registry_removed"
	DidRaiseEpoch     Did = "epoch_raised"
	DidFireSchedule   Did = "schedule_fired"
	DidDropSchedules  Did = "schedules_dropped"
	DidApprove        Did = "job_approved"
	DidReject         Did = "job_rejected"
	DidCancel         Did = "build_canceled"
)

// Who did what nobody asked for.
const (
	ByCluster = "cluster" // its leader, on what it saw
	ByClock   = "clock"   // a schedule
	ByWebhook = "webhook" // a forge
	// ByCatchUp is a look at a remote after nobody could be told for a while.
	ByCatchUp = "catch-up"
)

// maxDeeds bounds the audit log. Beyond it the oldest go.
const maxDeeds = 10_000

// did adds a line to the audit log.
func (tx *txn) did(d Deed) {
	d.Seq, d.Index, d.Term, d.At = tx.nextDeed, tx.index, tx.term, tx.now
	if d.By == "" {
		d.By = ByCluster
	}
	tx.nextDeed++
	tx.deeds.Insert(seqKey(d.Seq), &d)
	if d.Seq > maxDeeds {
		tx.deeds.Delete(seqKey(d.Seq - maxDeeds))
	}
}

// Deeds yields the audit log from the newest to the oldest, starting below before; 0
// starts at the newest.
func (s *State) Deeds(before uint64) iter.Seq[*Deed] {
	return func(yield func(*Deed) bool) {
		it := s.deeds.Root().ReverseIterator()
		if before > 0 {
			it.SeekReverseLowerBound(seqKey(before - 1))
		}
		for {
			_, d, ok := it.Previous()
			if !ok || !yield(d) {
				return
			}
		}
	}
}
