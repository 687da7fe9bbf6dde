package replica

import (
	"context"

	"github.com/codepr/narwhal/fsm"
)

// maxTold bounds what Wait hands out at a time.
const maxTold = 1000

// Outbox is the replicated list of what has to be told outside.
type Outbox struct{ Replica *Replica }

// Wait returns the transitions after seq, in order, as soon as there are any, or
// ctx's error.
func (o Outbox) Wait(ctx context.Context, after uint64) ([]fsm.Transition, error) {
	for {
		s, newer := o.Replica.Watch()
		var out []fsm.Transition
		for t := range s.Outbox(after) {
			if out = append(out, t); len(out) == maxTold {
				break
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
