package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

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
	self   fsm.NodeID
	kind   fsm.BlobKind // of the store
	bucket *bucketRoad  // where they belong; nil where that is on nodes
	// peers are other nodes that can take a copy, in the order in which they are asked.
	peers func(digest string) []fsm.NodeID
	at    func(digest string) string // path at other nodes
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
	slices.SortStableFunc(want.Holders, func(x, y fsm.NodeID) int { // the bucket answers whoever has died
		return cmp.Compare(bit(y.IsBucket()), bit(x.IsBucket()))
	})
	path, err := b.Store.Path(ctx, want)
	return path, noBlob(err)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func noBlob(err error) error {
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrGone) {
		return alias{err, []error{api.ErrNoBlob, runner.ErrNoBlob}}
	}
	if errors.Is(err, blob.ErrUnreachable) { // it may come back
		return alias{err, []error{api.ErrNoBlob}}
	}
	return err
}

// Copy puts a blob into the bucket. Without one, or while it is down, it gives it to the
// first other node that takes it.
func (b blobs) Copy(ctx context.Context, have fsm.Blob) (fsm.NodeID, error) {
	var failed []error
	if b.bucket != nil {
		id, err := b.deposit(ctx, have)
		if err == nil || ctx.Err() != nil {
			return id, err
		}
		failed = append(failed, err)
	}
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
	return b.send(ctx, id, have.Digest, f, size)
}

func (b blobs) send(ctx context.Context, id fsm.NodeID, digest string, from io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+string(id)+b.at(digest), from)
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

// others lists the other live nodes.
func others(c *cluster.Cluster) []fsm.NodeID {
	snap, _ := c.Watch()
	var out []fsm.NodeID
	for _, m := range snap.Members {
		if m.State == cluster.Alive && m.ID != c.Identity().NodeID {
			out = append(out, fsm.NodeID(m.ID))
		}
	}
	return out
}

// ranked lists the other live nodes in an order of the digest's own, so that copies are
// spread.
func ranked(c *cluster.Cluster) func(digest string) []fsm.NodeID {
	return func(digest string) []fsm.NodeID { return fsm.Rank(digest, others(c)) }
}

// fetchBlob reads a blob from a node that holds it, where at gives its path, or from the
// bucket.
func (n nodes) fetchBlob(at func(digest string) string, kind fsm.BlobKind, from *bucketRoad) func(context.Context, fsm.NodeID, string) (io.ReadCloser, error) {
	return func(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error) {
		if node.IsBucket() {
			return from.fetch(ctx, node, kind, digest)
		}
		body, err := n.read(ctx, node, at(digest), "blob")
		if errors.Is(err, errNotThere) {
			err = fmt.Errorf("%w: %w", blob.ErrNotFound, err)
		}
		return body, err
	}
}

// cacheIndex is the index of caches at the leader, as the runner uses it.
type cacheIndex struct{ desk leaderDesk }

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

// call asks the leader. A cache is not worth waiting for long: the job goes on without.
func (c cacheIndex) call(ctx context.Context, call api.CacheCall, answer any) (answered bool, err error) {
	return c.desk.call(ctx, api.CachePath, call, answer)
}
