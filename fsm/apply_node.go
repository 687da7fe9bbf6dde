package fsm

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

func (tx *txn) upsertNode(c *UpsertNode) error {
	id := []byte(c.Node.ID)
	if len(id) == 0 || bytes.IndexByte(id, 0) >= 0 {
		return fmt.Errorf("%w: node id %q", ErrInvalid, c.Node.ID)
	}
	next := c.Node
	next.JoinedAt = tx.now
	next.Drained, next.DrainedBy, next.DrainUntil, next.Reserved, next.Placed = false, "", time.Time{}, pipeline.Resources{}, 0
	if old, ok := tx.nodes.Get(id); ok {
		if c.Node.Incarnation < old.Incarnation {
			return ErrNodeChanged // a message of an earlier start came late
		}
		next.JoinedAt, next.Reserved, next.Placed = old.JoinedAt, old.Reserved, old.Placed
		next.Drained, next.DrainedBy, next.DrainUntil = old.Drained, old.DrainedBy, old.DrainUntil
	}
	tx.nodes.Insert(id, &next)
	return nil
}

func (tx *txn) drainNode(c *DrainNode) error {
	old, ok := tx.nodes.Get([]byte(c.Node))
	if !ok {
		return ErrUnknownNode
	}
	next := *old
	next.Drained, next.DrainedBy, next.DrainUntil = c.Drain, "", time.Time{}
	if c.Drain {
		next.DrainedBy, next.DrainUntil = c.By, c.Until
	}
	if next.Drained != old.Drained {
		tx.did(Deed{Did: drainOrResume(c.Drain), By: c.By, On: string(c.Node)})
	}
	tx.nodes.Insert([]byte(c.Node), &next)
	return nil
}

func (tx *txn) removeNode(c *RemoveNode) error {
	n, ok := tx.nodes.Get([]byte(c.Node))
	if !ok {
		return nil
	}
	if n.Placed > 0 {
		return ErrNodeBusy
	}
	tx.nodes.Delete([]byte(c.Node))
	tx.did(Deed{Did: DidRemoveNode, On: string(c.Node)})
	return nil
}

func drainOrResume(drain bool) Did {
	if drain {
		return DidDrain
	}
	return DidResume
}

func (tx *txn) raiseEpoch(c *RaiseEpoch) {
	if c.Epoch > tx.epoch {
		tx.epoch = c.Epoch
		tx.did(Deed{Did: DidRaiseEpoch, On: strconv.FormatUint(c.Epoch, 10)})
	}
}

func (tx *txn) setSinks(c *SetSinks) error {
	tx.sinks = *c
	return nil
}

func (tx *txn) ackEvents(c *AckEvents) error {
	it := tx.outbox.Root().Iterator()
	var done [][]byte
	for k, t, ok := it.Next(); ok && t.Seq <= c.Seq; k, t, ok = it.Next() {
		done = append(done, k)
	}
	for _, k := range done {
		tx.outbox.Delete(k)
		tx.waiting--
	}
	return nil
}

// reserve books a job's request on a node; sign is 1 to take, -1 to give back.
func (tx *txn) reserve(id NodeID, r pipeline.Resources, sign int64) {
	old, ok := tx.nodes.Get([]byte(id))
	if !ok {
		return // removed; a node is only removed when nothing is placed on it
	}
	next := *old
	next.Reserved.CPU += sign * r.CPU
	next.Reserved.Memory += sign * r.Memory
	next.Reserved.Disk += sign * r.Disk
	next.Placed += int(sign)
	tx.nodes.Insert([]byte(id), &next)
}
