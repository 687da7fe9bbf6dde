package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/bucket"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
)

// bucketRoad is this node's way to the bucket. All its methods but Bucket's own can be
// called on nil, a node that has none.
type bucketRoad struct {
	*bucket.Bucket
	file string // where the mark is remembered
	url  string // as given, hashed
}

// remembered is what a node knows of its bucket over a restart, so that it starts
// while the bucket is down.
type remembered struct {
	URL  string      `json:"url_sha256"` // the URL may say more than a file should
	Mark bucket.Mark `json:"mark"`
}

// openBucket opens and tries the bucket of --blob-bucket, where there is one.
func openBucket(ctx context.Context, cfg nodeConfig, log *slog.Logger) (*bucketRoad, error) {
	if cfg.bucket == "" {
		return nil, nil
	}
	sum := sha256.Sum256([]byte(cfg.bucket))
	road := &bucketRoad{file: filepath.Join(cfg.dataDir, "bucket.json"), url: hex.EncodeToString(sum[:])}
	var known bucket.Mark
	data, err := os.ReadFile(road.file)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("--blob-bucket: read what is known of it: %w", err)
	default:
		var was remembered
		if err := json.Unmarshal(data, &was); err != nil {
			return nil, fmt.Errorf("--blob-bucket: %s is damaged: remove it: %w", road.file, err)
		}
		if was.URL == road.url {
			known = was.Mark
		}
	}
	if road.Bucket, err = bucket.Open(ctx, bucket.Config{URL: cfg.bucket, Known: known, Log: log}); err != nil {
		return nil, fmt.Errorf("--blob-bucket: %w", err)
	}
	return road, nil
}

// claim has the bucket be the cluster's, and remembers that.
func (r *bucketRoad) claim(ctx context.Context, clusterID string) error {
	if r == nil {
		return nil
	}
	mark, err := r.Claim(ctx, clusterID)
	if err != nil {
		return fmt.Errorf("--blob-bucket: %w", err)
	}
	data, err := json.Marshal(remembered{r.url, mark})
	if err != nil {
		return err
	}
	if err := writeDurably(r.file, data); err != nil {
		return fmt.Errorf("--blob-bucket: remember it: %w", err)
	}
	return nil
}

// writeDurably replaces a file as a whole, also where the power goes.
func writeDurably(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (r *bucketRoad) close() error {
	if r == nil {
		return nil
	}
	return r.Close()
}

// health is how the bucket stands, for people.
func (r *bucketRoad) health() *api.BucketHealth {
	if r == nil {
		return nil
	}
	h := r.Health()
	out := &api.BucketHealth{URL: r.String(), ID: r.ID(), Since: h.Since}
	if h.Err != nil {
		out.Error = h.Err.Error()
	} else {
		out.Since = time.Time{}
	}
	return out
}

// fetch reads a blob from the bucket that holds it.
func (r *bucketRoad) fetch(ctx context.Context, holder fsm.NodeID, kind fsm.BlobKind, digest string) (io.ReadCloser, error) {
	switch {
	case r == nil:
		return nil, alias{fmt.Errorf("it lies in a bucket, %s, and this node was started without --blob-bucket", holder), []error{api.ErrBucket}}
	case r.Holder() != holder:
		return nil, alias{fmt.Errorf("it lies in a bucket, %s, that is not this node's, %s, %s: the node was started with another --blob-bucket", holder, r.Holder(), r), []error{api.ErrBucket}}
	}
	body, err := r.Get(ctx, kind, digest)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return nil, alias{err, []error{blob.ErrNotFound}}
	case err != nil:
		return nil, alias{err, []error{api.ErrBucket}}
	}
	return bucketBody{body}, nil
}

// bucketBody says of what goes wrong on the way that it was the bucket's.
type bucketBody struct{ io.ReadCloser }

func (b bucketBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = alias{err, []error{api.ErrBucket}}
	}
	return n, err
}

// deposit puts a blob of this node's into the bucket and gives the bucket's name. Where
// that fails the blob stays here until it has been put there, and is not evicted.
func (b blobs) deposit(ctx context.Context, have fsm.Blob) (fsm.NodeID, error) {
	defer b.Pin(have.Digest)()
	f, _, err := b.Store.Open(have.Digest)
	if err != nil {
		return "", err
	}
	err = b.depositTo(ctx, b.bucket.Holder(), have.Digest, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, b.Wait(have.Digest))
	}
	return b.bucket.Holder(), nil
}

// depositTo puts what r brings, which is a blob of this node's, into the bucket of that
// name.
func (b blobs) depositTo(ctx context.Context, to fsm.NodeID, digest string, r io.Reader) error {
	if b.bucket == nil || b.bucket.Holder() != to {
		return fmt.Errorf("put blob %s into %s: that is not this node's --blob-bucket", digest, to)
	}
	if err := b.bucket.Put(ctx, b.kind, digest, r); err != nil {
		return err
	}
	return b.Settle(digest)
}

// uploaders are the nodes that can put something into this node's bucket now.
func (r *bucketRoad) uploaders(c *cluster.Cluster) []fsm.NodeID {
	snap, _ := c.Watch()
	var out []fsm.NodeID
	for _, m := range snap.Members {
		if m.State == cluster.Alive && m.Load.Bucket == r.ID() && !m.Load.BucketDown {
			out = append(out, fsm.NodeID(m.ID))
		}
	}
	return out
}

// bucketOf is a node's bucket as it tells by gossip.
func bucketOf(l cluster.Load) *api.NodeBucket {
	if l.Bucket == "" {
		return nil
	}
	return &api.NodeBucket{ID: l.Bucket, Down: l.BucketDown, Waiting: l.Waiting}
}

// sweeper removes from the bucket what nobody needs any more; it is the leader's.
func (n *node) sweeper() *bucket.Sweeper {
	return bucket.NewSweeper(bucket.SweepConfig{
		Bucket: n.bucket.Bucket, State: n.replica.State, KeepLogs: n.cfg.keepLogsFor, Caches: n.cfg.cacheBytes, Every: n.cfg.sweepEvery,
		Propose: func(ctx context.Context, commands []fsm.Command) error {
			_, err := n.proposer.ProposeAll(ctx, commands)
			return err
		},
		Log: n.log.With("part", "bucket"),
	})
}

// load is what this node says of itself by gossip while it runs.
type load struct {
	tell func(cluster.Load)
	mu   sync.Mutex
	now  cluster.Load
}

func (l *load) change(set func(*cluster.Load)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set(&l.now)
	l.tell(l.now)
}
