package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/copies"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// openCopies opens this node's copies of logs, and the store of those that are sealed.
func (n *node) openCopies() error {
	self := fsm.NodeID(n.cluster.Identity().NodeID)
	sealed, err := blob.Open(blob.Config{
		Near: nearest(n.cluster),
		Dir:  filepath.Join(n.cfg.dataDir, "logs"), Suffix: ".log.zst", Budget: n.cfg.keepBytes, Limit: maxSealed,
		Fetch: n.nodes.fetchBlob(api.SealedPath, fsm.BlobLog, n.bucket),
	}, n.log)
	if err != nil {
		return err
	}
	n.sealed = sealedLogs{blobs{Store: sealed, self: self, kind: fsm.BlobLog, bucket: n.bucket, peers: ranked(n.cluster), at: api.SealedPath, nodes: n.nodes}}
	if n.shelf, err = copies.OpenShelf(filepath.Join(n.cfg.dataDir, "copies")); err != nil {
		return err
	}
	var deposit func(context.Context, fsm.Blob) (fsm.NodeID, error)
	if n.bucket != nil {
		deposit = n.sealed.deposit
	}
	n.copier, err = copies.NewCopier(copies.Config{
		Bucket: deposit,
		Self:   self, Peers: copyPeers{n.cluster, n.nodes, n.sealed}, Shelf: n.shelf, Sealed: sealed,
		Register: sealDesk{leaderDesk{leaders{n.cluster}, n.nodes}}.register, Limit: n.cfg.logBytes, Alone: !n.cfg.copyLogs, Log: n.log.With("part", "copies"),
	})
	return err
}

// maxSealed is the most bytes of one sealed log.
const maxSealed = 1 << 30

// copyPeers are the other nodes, as the copier reaches them.
type copyPeers struct {
	cluster *cluster.Cluster
	nodes   nodes
	sealed  sealedLogs
}

func (p copyPeers) Alive() []fsm.NodeID { return others(p.cluster) }

// tellWithin bounds how long a node may take for one message: a slow one is not to hold
// up the copies for others.
const tellWithin = 10 * time.Second

func (p copyPeers) Tell(ctx context.Context, node fsm.NodeID, chunks []copies.Chunk) (copies.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	return copies.Tell(ctx, p.nodes.transport, fsm.NodeID(p.cluster.Identity().NodeID), "http://"+string(node)+api.CopiesPath, chunks)
}

func (p copyPeers) Give(ctx context.Context, node fsm.NodeID, b fsm.Blob) error {
	return p.sealed.give(ctx, node, b)
}

// sealDesk enters sealed logs at the leader.
type sealDesk struct{ desk leaderDesk }

func (d sealDesk) register(ctx context.Context, seals []fsm.SealLog) ([]error, error) {
	var answers []api.SealAnswer
	if _, err := d.desk.call(ctx, api.SealsPath, seals, &answers); err != nil {
		return nil, err
	}
	if len(answers) != len(seals) {
		return nil, fmt.Errorf("enter sealed logs: the leader answered on %d of %d", len(answers), len(seals))
	}
	errs := make([]error, len(seals))
	for i, a := range answers {
		switch a {
		case api.SealEntered:
		case api.SealEarly:
			errs[i] = fsm.ErrNotEnded
		default:
			errs[i] = fsm.ErrStale
		}
	}
	return errs, nil
}

// sealedLogs is the store as the API reads it.
type sealedLogs struct{ blobs }

// Read implements api.SealedLogs. What it reads was compared with its name before: on
// the way here, or just now.
func (s sealedLogs) Read(ctx context.Context, b fsm.Blob, offset int64) (*joblog.Reader, error) {
	if err := s.Verify(ctx, b.Digest, b.Size); err != nil && !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrCorrupt) {
		return nil, err
	}
	path, err := s.Path(ctx, b) // from another node, where it was not here or is not any more
	if err != nil {
		return nil, err
	}
	return joblog.OpenSealed(path, offset)
}

// logsHere are the logs that can be read as files on this node: its own, and copies.
type logsHere struct {
	own   ownLogs
	shelf *copies.Shelf
}

type ownLogs interface {
	Open(job fsm.JobID, attempt int, offset int64) (*joblog.Reader, error)
	Follow(ctx context.Context, job fsm.JobID, attempt int, offset int64) (iter.Seq2[joblog.Line, error], error)
}

// logs are this node's; a witness writes none.
func (n *node) logs() logsHere {
	l := logsHere{noLogs{}, n.shelf}
	if n.runner != nil {
		l.own = n.runner.Logs()
	}
	return l
}

// Open implements api.Logs.
func (l logsHere) Open(job fsm.JobID, attempt int, offset int64) (*joblog.Reader, error) {
	r, err := l.own.Open(job, attempt, offset)
	if err == nil {
		return r, nil
	}
	if held, ok := l.shelf.Find(job, attempt); ok {
		return joblog.Open(held.Path, offset)
	}
	return nil, err
}

// Follow implements api.Logs.
func (l logsHere) Follow(ctx context.Context, job fsm.JobID, attempt int, offset int64) (iter.Seq2[joblog.Line, error], error) {
	return l.own.Follow(ctx, job, attempt, offset)
}

type noLogs struct{}

var errNoLogs = errors.New("this node runs no jobs")

func (noLogs) Open(fsm.JobID, int, int64) (*joblog.Reader, error) { return nil, errNoLogs }

func (noLogs) Follow(context.Context, fsm.JobID, int, int64) (iter.Seq2[joblog.Line, error], error) {
	return nil, errNoLogs
}

// expireLogs drops sealed logs that are too old, until ctx ends.
func (n *node) expireLogs(ctx context.Context) error {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		if err := n.sealed.Expire(time.Now().Add(-n.cfg.keepLogsFor)); err != nil {
			n.log.Warn("drop old logs", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
