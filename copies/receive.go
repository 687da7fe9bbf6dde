package copies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// lent is a sealed log that another node gave, and has not entered into the state yet.
type lent struct {
	owner fsm.NodeID
	seal  fsm.SealLog
}

// maxLent bounds how many of them are remembered.
const maxLent = 100_000

// ownerPattern is that of node IDs, which are part of a file's name here.
var ownerPattern = regexp.MustCompile(`^[0-9A-Za-z_]{1,64}$`)

// Take is the other end of Peers.Tell.
func (c *Copier) Take(ctx context.Context, owner fsm.NodeID, chunks []Chunk) (Answer, error) {
	if !ownerPattern.MatchString(string(owner)) {
		return Answer{}, fmt.Errorf("copy logs: %q is no node's ID", owner)
	}
	sizes := make([]int64, len(chunks))
	for i, chunk := range chunks {
		var err error
		switch {
		case chunk.Known:
			err = c.settle(owner, chunk.Ref)
		case chunk.Seal != nil:
			err = c.keep(ctx, owner, chunk.Ref, chunk.Seal)
		default:
			sizes[i], err = c.cfg.Shelf.Append(owner, chunk.Ref, chunk.Offset, chunk.Data)
		}
		if err != nil {
			return Answer{}, err
		}
	}
	return Answer{Sizes: sizes}, nil
}

// keep takes a sealed log in.
func (c *Copier) keep(ctx context.Context, owner fsm.NodeID, ref fsm.AttemptRef, seal *Seal) error {
	if seal.Packed != nil {
		digest, _, err := c.cfg.Sealed.Put(ctx, bytes.NewReader(seal.Packed), 2*maxPacked)
		if err != nil {
			return err
		}
		if digest != seal.Log.Digest {
			return errors.Join(fmt.Errorf("sealed log of %s: it came with other bytes than it was sent with", ref), c.cfg.Sealed.Remove(digest))
		}
	} else if !c.cfg.Sealed.Has(seal.Log.Digest) {
		return fmt.Errorf("sealed log of %s: it did not come", ref)
	}
	b := seal.Log
	b.Holders = []fsm.NodeID{owner, c.cfg.Self}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lent) < maxLent {
		c.lent[ref] = lent{owner, fsm.SealLog{Ref: ref, Bytes: seal.Bytes, Log: b}}
	}
	return nil
}

// settle forgets what was kept in case that its owner dies.
func (c *Copier) settle(owner fsm.NodeID, ref fsm.AttemptRef) error {
	c.mu.Lock()
	delete(c.lent, ref)
	c.mu.Unlock()
	return c.cfg.Shelf.Drop(owner, ref)
}

// abandoned is how long a copy is kept of which nothing is heard any more, though its
// owner is there: it has died between the seal and its word.
const abandoned = 24 * time.Hour

// lookForOrphans takes over the logs of nodes that have been away for long.
func (c *Copier) lookForOrphans(now time.Time) {
	list, err := c.cfg.Shelf.List()
	if err != nil {
		c.cfg.Log.Warn("look for copies of logs", "error", err)
		return
	}
	alive := c.cfg.Peers.Alive()
	for _, held := range list {
		switch {
		case c.gone(held.Owner, alive, now):
			c.watch(held.Owner, held.Ref, held.Path, true)
		case slices.Contains(alive, held.Owner) && now.Sub(held.At) > abandoned:
			if err := c.cfg.Shelf.Drop(held.Owner, held.Ref); err != nil {
				c.cfg.Log.Warn("drop old copy", "attempt", held.Ref.String(), "error", err)
			}
		}
	}
	c.mu.Lock()
	left := make([]lent, 0, len(c.lent))
	for _, l := range c.lent {
		left = append(left, l)
	}
	c.mu.Unlock()
	for _, l := range left {
		if c.gone(l.owner, alive, now) {
			c.inherit(l)
		}
	}
}

// gone reports whether a node has been away for as long as makes its logs orphans.
func (c *Copier) gone(id fsm.NodeID, alive []fsm.NodeID, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(alive, id) {
		delete(c.away, id)
		return false
	}
	since, known := c.away[id]
	if !known {
		c.away[id] = now
	}
	return known && now.Sub(since) >= c.cfg.Orphaned
}

// inherit enters into the state what its owner has sealed and did not live to enter.
func (c *Copier) inherit(l lent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lent, l.seal.Ref)
	if _, ok := c.logs[l.seal.Ref]; ok {
		return
	}
	c.logs[l.seal.Ref] = &entry{ref: l.seal.Ref, owner: l.owner, over: true, sent: -1, seal: &l.seal, given: true}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
