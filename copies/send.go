package copies

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/codepr/narwhal/fsm"
)

// choose has the entry's copy on a node that is there: the first one of its rank, or
// the one after those that did not answer.
func (c *Copier) choose(e *entry, alive []fsm.NodeID) {
	if e.peer != "" && slices.Contains(alive, e.peer) {
		return
	}
	e.peer, e.sent = "", -1
	if ranked := fsm.Rank(fsm.LogKey(e.ref.Job, e.ref.N), alive); len(ranked) > 0 && !c.cfg.Alone {
		e.peer = ranked[e.tries%len(ranked)]
	}
}

// lost notes that the peer did not answer: the next round tries another.
func (e *entry) lost() {
	e.peer, e.sent, e.tries = "", -1, e.tries+1
}

// byPeer sorts entries by who has their copies; those that have none are left out.
func (c *Copier) byPeer(list []*entry) map[fsm.NodeID][]*entry {
	alive := c.cfg.Peers.Alive()
	groups := make(map[fsm.NodeID][]*entry)
	for _, e := range list {
		if c.choose(e, alive); e.peer != "" {
			groups[e.peer] = append(groups[e.peer], e)
		}
	}
	return groups
}

// copy sends what was written since, to all peers at a time.
func (c *Copier) copy(ctx context.Context, open []*entry) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for peer, list := range c.byPeer(open) {
		wg.Go(func() { c.copyTo(ctx, peer, list) })
	}
}

// copyTo sends until the peer has what there was at the beginning of each log's turn.
func (c *Copier) copyTo(ctx context.Context, peer fsm.NodeID, list []*entry) {
	for len(list) > 0 && ctx.Err() == nil {
		var batch batch
		var rest []*entry
		for _, e := range list {
			if batch.full() {
				rest = append(rest, e)
				continue
			}
			chunk, more := c.next(e)
			if chunk != nil {
				batch.add(e, *chunk)
			}
			if more {
				rest = append(rest, e)
			}
		}
		if !c.tell(ctx, peer, &batch) {
			return
		}
		list = rest
	}
}

// next is the chunk to be sent of a log now; nil for nothing. more says that another
// one follows it.
func (c *Copier) next(e *entry) (chunk *Chunk, more bool) {
	if e.sent < 0 {
		return &Chunk{Ref: e.ref}, true // the answer says what the peer has
	}
	file, err := os.Open(e.path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			c.cfg.Log.Warn("copy log", "attempt", e.ref.String(), "error", err)
		}
		return nil, false
	}
	defer func() { _ = file.Close() }()
	var size int64
	info, err := file.Stat()
	if err == nil {
		if size = min(info.Size(), c.cfg.Limit); size <= e.sent {
			return nil, false
		}
	}
	var data []byte
	if err == nil {
		data = make([]byte, min(maxData, size-e.sent))
		_, err = io.ReadFull(io.NewSectionReader(file, e.sent, int64(len(data))), data)
	}
	if err != nil {
		c.cfg.Log.Warn("copy log", "attempt", e.ref.String(), "error", err)
		return nil, false
	}
	return &Chunk{Ref: e.ref, Offset: e.sent, Data: data}, e.sent+int64(len(data)) < size
}

// batch is what goes to a peer with one message.
type batch struct {
	entries []*entry
	chunks  []Chunk
	bytes   int
}

func (b *batch) full() bool { return b.bytes >= maxBatch || len(b.chunks) >= maxChunks }

func (b *batch) add(e *entry, chunk Chunk) {
	b.entries, b.chunks = append(b.entries, e), append(b.chunks, chunk)
	b.bytes += len(chunk.Data)
	if chunk.Seal != nil {
		b.bytes += len(chunk.Seal.Packed)
	}
}

// tell sends a batch and notes what the peer has then.
func (c *Copier) tell(ctx context.Context, peer fsm.NodeID, b *batch) bool {
	if len(b.chunks) == 0 {
		return true
	}
	answer, err := c.cfg.Peers.Tell(ctx, peer, b.chunks)
	if err == nil && len(answer.Sizes) != len(b.chunks) {
		err = errors.New("it answered on other logs")
	}
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Info("copy logs to another node, trying the next one", "node", peer, "logs", len(b.chunks), "error", err)
		}
		for _, e := range b.entries {
			e.lost()
		}
		return false
	}
	for i, e := range b.entries {
		e.sent = answer.Sizes[i]
	}
	return true
}

// give has a second node keep what is sealed: the small ones many at a time.
func (c *Copier) give(ctx context.Context, over []*entry) {
	var ready []*entry
	for _, e := range over {
		if e.seal != nil && !e.given && e.put == nil {
			ready = append(ready, e)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	groups := c.byPeer(ready)
	for _, e := range ready {
		e.given = e.peer == "" // nobody else is there
	}
	for peer, list := range groups {
		wg.Go(func() { c.giveTo(ctx, peer, list) })
	}
}

func (c *Copier) giveTo(ctx context.Context, peer fsm.NodeID, list []*entry) {
	for len(list) > 0 && ctx.Err() == nil {
		var batch batch
		for len(list) > 0 && !batch.full() {
			e := list[0]
			list = list[1:]
			if e.packed == nil {
				if err := c.cfg.Peers.Give(ctx, peer, e.seal.Log); err != nil {
					c.cfg.Log.Info("copy sealed log to another node, trying the next one", "node", peer, "attempt", e.ref.String(), "error", err)
					e.lost()
					continue
				}
			}
			batch.add(e, Chunk{Ref: e.ref, Seal: &Seal{Log: e.seal.Log, Bytes: e.seal.Bytes, Packed: e.packed}})
		}
		if !c.tell(ctx, peer, &batch) {
			return
		}
		for _, e := range batch.entries {
			e.given, e.packed, e.seal.Log.Holders = true, nil, []fsm.NodeID{c.cfg.Self, peer}
		}
	}
}

// tellKnown lets peers forget what they keep in case that this node dies.
func (c *Copier) tellKnown(ctx context.Context, over []*entry) {
	groups := make(map[fsm.NodeID]*batch)
	for _, e := range over {
		if e.doneAt.IsZero() || e.wasKnown {
			continue
		}
		e.wasKnown = true // if it gets lost, the peer finds out by itself
		if groups[e.peer] == nil {
			groups[e.peer] = &batch{}
		}
		groups[e.peer].add(e, Chunk{Ref: e.ref, Known: true})
	}
	for peer, b := range groups {
		if _, err := c.cfg.Peers.Tell(ctx, peer, b.chunks); err != nil {
			c.cfg.Log.Debug("tell another node of sealed logs", "node", peer, "error", err)
		}
	}
}

// seal compresses the log at path into this node's store. packed is what the store
// has, where it is small.
func (c *Copier) seal(ctx context.Context, path string) (b fsm.Blob, size int64, packed []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return b, 0, nil, err
	}
	if info.Size() <= maxPacked { // what doesn't compress grows by a few bytes only
		var buf bytes.Buffer
		if size, err = c.sealer.Seal(&buf, path); err != nil {
			return b, 0, nil, err
		}
		packed = buf.Bytes()
		b.Digest, b.Size, err = c.cfg.Sealed.Put(ctx, bytes.NewReader(packed), 2*maxPacked)
		return b, size, packed, err
	}
	r, w := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		size, err = c.sealer.Seal(w, path)
		_ = w.CloseWithError(err) // nil ends it
	})
	digest, n, putErr := c.cfg.Sealed.Put(ctx, r, 2*info.Size()+maxPacked)
	_ = r.CloseWithError(putErr)
	wg.Wait()
	return fsm.Blob{Digest: digest, Size: n}, size, nil, errors.Join(putErr, err)
}
