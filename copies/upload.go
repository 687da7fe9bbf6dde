package copies

import (
	"context"

	"github.com/codepr/narwhal/fsm"
)

// uploads is how many sealed logs are on their way into the bucket at a time.
const uploads = 4

// put is a sealed log's way into the bucket.
type put struct {
	done   chan struct{} // closed when the rest is set
	holder fsm.NodeID
	err    error
}

// late are the logs that have ended and are not where they are safe yet: it takes longer
// into the bucket than to a second node, which is sent the rest meanwhile.
func (c *Copier) late(over []*entry) (late []*entry) {
	for _, e := range over {
		if c.cfg.Bucket != nil && e.owner == c.cfg.Self && !e.given && e.doneAt.IsZero() {
			late = append(late, e)
		}
	}
	return late
}

// upload has the bucket keep what is sealed. The copies of what is being written do not
// wait for it: each round sees how far it has come.
func (c *Copier) upload(ctx context.Context, over []*entry) {
	if c.cfg.Bucket == nil {
		return
	}
	for _, e := range over {
		switch {
		case e.seal == nil || e.given || e.noBucket:
		case e.put == nil:
			e.put = c.begin(ctx, e.seal.Log)
		default:
			c.end(ctx, e)
		}
	}
}

func (c *Copier) begin(ctx context.Context, log fsm.Blob) *put {
	p := &put{done: make(chan struct{})}
	c.puts.Go(func() {
		defer close(p.done)
		select {
		case c.slots <- struct{}{}:
			p.holder, p.err = c.cfg.Bucket(ctx, log)
			<-c.slots
		case <-ctx.Done():
			p.err = ctx.Err()
		}
	})
	return p
}

// end takes an upload's end, if it has come to one.
func (c *Copier) end(ctx context.Context, e *entry) {
	select {
	case <-e.put.done:
	default:
		return
	}
	p := e.put
	if e.put = nil; p.err != nil {
		e.noBucket = true
		if ctx.Err() == nil {
			c.cfg.Log.Info("put sealed log into the bucket, keeping it on nodes for now", "attempt", e.ref.String(), "error", p.err)
		}
		return
	}
	e.given, e.packed, e.seal.Log.Holders = true, nil, []fsm.NodeID{c.cfg.Self, p.holder}
}
