package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/runner"
)

// blobs is this node's store with the road to the others', as the runner and the API
// use it.
type blobs struct {
	*blob.Store
	self fsm.NodeID
	// peers are other nodes that can take a copy, in the order in which they are asked.
	peers func(digest string) []fsm.NodeID
	nodes nodes
}

var _ runner.Blobs = blobs{}

// Open implements api.Blobs.
func (b blobs) Open(digest string) (io.ReadCloser, int64, error) {
	f, size, err := b.Store.Open(digest)
	if err != nil {
		return nil, 0, noBlob(err)
	}
	return f, size, nil
}

// Fetch implements api.Blobs.
func (b blobs) Fetch(ctx context.Context, want fsm.Blob) (io.ReadCloser, error) {
	path, err := b.Path(ctx, want)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Path gives a blob's file, from wherever it is.
func (b blobs) Path(ctx context.Context, want fsm.Blob) (string, error) {
	want.Holders = slices.DeleteFunc(slices.Clone(want.Holders), func(id fsm.NodeID) bool { return id == b.self })
	path, err := b.Store.Path(ctx, want)
	return path, noBlob(err)
}

func noBlob(err error) error {
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrGone) {
		return alias{err, []error{api.ErrNoBlob, runner.ErrNoBlob}}
	}
	return err
}

// Copy gives a blob to the first other node that takes it.
func (b blobs) Copy(ctx context.Context, have fsm.Blob) (fsm.NodeID, error) {
	var failed []error
	for _, id := range b.peers(have.Digest) {
		err := b.give(ctx, id, have)
		if err == nil || ctx.Err() != nil {
			return id, err
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

func (b blobs) give(ctx context.Context, id fsm.NodeID, have fsm.Blob) error {
	f, size, err := b.Store.Open(have.Digest)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+string(id)+api.BlobPath(have.Digest), f)
	if err != nil {
		return err
	}
	req.ContentLength = size
	resp, err := b.nodes.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("copy blob to node %s: %w", id, err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("copy blob to node %s: it answered %s", id, resp.Status)
	}
	return nil
}

// others lists the other live nodes, in an order of the digest's own, so that copies
// are spread (rendezvous hashing).
func others(c *cluster.Cluster) func(digest string) []fsm.NodeID {
	return func(digest string) []fsm.NodeID {
		snap, _ := c.Watch()
		weights := make(map[fsm.NodeID]uint64)
		var out []fsm.NodeID
		for _, m := range snap.Members {
			if m.State != cluster.Alive || m.ID == c.Identity().NodeID {
				continue
			}
			h := fnv.New64a()
			_, _ = h.Write([]byte(digest + m.ID)) // never fails
			out, weights[fsm.NodeID(m.ID)] = append(out, fsm.NodeID(m.ID)), h.Sum64()
		}
		slices.SortFunc(out, func(a, b fsm.NodeID) int { return cmp.Compare(weights[b], weights[a]) })
		return out
	}
}

// fetchBlob reads a blob from a node that holds it.
func (n nodes) fetchBlob(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error) {
	body, err := n.read(ctx, node, api.BlobPath(digest), "blob")
	if errors.Is(err, errNotThere) {
		err = fmt.Errorf("%w: %w", blob.ErrNotFound, err)
	}
	return body, err
}

// cacheIndex is the index of caches at the leader, as the runner uses it.
type cacheIndex struct {
	leaders leaders
	nodes   nodes
}

var _ runner.Caches = cacheIndex{}

// Find implements runner.Caches.
func (c cacheIndex) Find(ctx context.Context, repo string, scopes []string, key string, restore []string) (e fsm.CacheEntry, found bool, err error) {
	found, err = c.call(ctx, api.CacheCall{Find: &api.FindCache{Repo: repo, Scopes: scopes, Key: key, Restore: restore}}, &e)
	return e, found, err
}

// Save implements runner.Caches.
func (c cacheIndex) Save(ctx context.Context, e fsm.CacheEntry) error {
	_, err := c.call(ctx, api.CacheCall{Save: &fsm.SaveCache{Entry: e}}, nil)
	return err
}

// Used implements runner.Caches.
func (c cacheIndex) Used(ctx context.Context, e fsm.CacheEntry) error {
	_, err := c.call(ctx, api.CacheCall{Use: &fsm.UseCache{Repo: e.Repo, Scope: e.Scope, Key: e.Key}}, nil)
	return err
}

// Drop implements runner.Caches.
func (c cacheIndex) Drop(ctx context.Context, e fsm.CacheEntry) error {
	_, err := c.call(ctx, api.CacheCall{Drop: &fsm.DropCache{Repo: e.Repo, Scope: e.Scope, Key: e.Key, Digest: e.Blob.Digest}}, nil)
	return err
}

// callWithin is how long a leader is looked for. A cache is not worth more: the job
// goes on without.
const callWithin = 15 * time.Second

// call asks whoever leads, and asks again while leadership changes. answered is false
// where there is nothing to answer with.
func (c cacheIndex) call(ctx context.Context, call api.CacheCall, answer any) (answered bool, err error) {
	body, err := json.Marshal(call)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	for {
		changed := c.leaders.Changed()
		if leader, ok := c.leaders.Leader(); ok {
			var again bool
			if answered, again, err = c.ask(ctx, leader, body, answer); !again {
				return answered, err
			}
		}
		retry := time.NewTimer(200 * time.Millisecond) // the new leader may not lead yet
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return false, cmp.Or(err, ctx.Err())
		}
		retry.Stop()
	}
}

func (c cacheIndex) ask(ctx context.Context, leader fsm.NodeID, body []byte, answer any) (answered, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(leader)+api.CachePath, bytes.NewReader(body))
	if err != nil {
		return false, false, err
	}
	resp, err := c.nodes.transport.RoundTrip(req)
	if err != nil {
		return false, ctx.Err() == nil, fmt.Errorf("ask the leader for caches: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return false, false, nil
	case resp.StatusCode == http.StatusOK && answer != nil:
		return true, false, json.NewDecoder(resp.Body).Decode(answer)
	default:
		return false, resp.StatusCode == http.StatusServiceUnavailable, fmt.Errorf("ask the leader for caches: it answered %s", resp.Status)
	}
}
