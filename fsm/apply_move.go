package fsm

import (
	"cmp"
	"fmt"

	"github.com/codepr/narwhal/pipeline"
)

// moveAttempt asks for the end of an attempt whose node is drained and out of time.
// Its node has not stopped it yet: until then it holds its place there.
func (tx *txn) moveAttempt(c *MoveAttempt) error {
	j, a, err := tx.attempt(c.Ref)
	if err != nil || a.Status.Terminal() || a.Moved != "" {
		return err
	}
	n, ok := tx.nodes.Get([]byte(a.Node))
	if !ok || !n.Drained || n.DrainUntil.IsZero() {
		return ErrNodeChanged // it has been taken back
	}
	a.Moved = fmt.Sprintf("node %s was to be empty by %s, drained by %s", cmp.Or(n.Name, string(n.ID)), n.DrainUntil.UTC().Format("2006-01-02 15:04:05 MST"), n.DrainedBy)
	tx.putJob(j)
	tx.tellJob(tx.buildOf(j), j)
	tx.markAttempt(j, TurnMoved)
	return nil
}

// endMoved is what follows when the node has stopped a moved attempt. That the machine
// was wanted is not the commit's failure, and no loss of a node: neither is counted.
func (tx *txn) endMoved(j *Job, a *Attempt, o Outcome) {
	o.Message = a.Moved
	if j.Spec != nil && j.Spec.OnNodeLoss == pipeline.NodeLossFail {
		o.Status, o.Cause = Errored, CauseNodeLost
		o.Message += "; on_node_loss: fail keeps it from running twice"
		tx.endAttempt(j, a, o)
		return
	}
	tx.recordEnd(j, a, &o)
	tx.queue(j)
}
