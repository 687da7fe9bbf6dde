package fsm

import (
	"fmt"
	"slices"
)

func (tx *txn) sealLog(c *SealLog) error {
	if c.Log.Digest == "" || len(c.Log.Holders) == 0 || c.Bytes < 0 {
		return fmt.Errorf("%w: a sealed log wants a blob that a node holds", ErrInvalid)
	}
	j, ok := tx.jobs.Get(c.Ref.Job.key())
	if !ok || c.Ref.N < 1 || c.Ref.N > len(j.Attempts) {
		return ErrStale // its build has been pruned
	}
	a := j.Attempts[c.Ref.N-1]
	switch {
	case a.Token != c.Ref.Token:
		return ErrStale
	case !a.Status.Terminal():
		return ErrNotEnded
	case a.Log != nil && a.LogBytes > c.Bytes:
		return nil // a copy that was cut short
	case a.Log != nil && a.LogBytes == c.Bytes && len(a.Log.Holders) >= len(c.Log.Holders):
		return nil // a repeat
	}
	next := *j
	next.Attempts = slices.Clone(j.Attempts)
	log := c.Log
	next.Attempts[c.Ref.N-1].Log, next.Attempts[c.Ref.N-1].LogBytes = &log, c.Bytes
	tx.putJob(&next)
	return nil
}
