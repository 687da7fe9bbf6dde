package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/replica"
)

// staleFor is how long a copy of the state that can't be compared with the leader's
// is left unread: a cluster that has lost its majority is still to be looked at.
const staleFor = 5 * time.Second

// freshness tells whether this node's copy of the state may be read. A node that has
// just started, or just been given the log, is behind: it would not know the build
// that another node has just shown.
type freshness struct {
	cluster *cluster.Cluster
	replica *replica.Replica
	leader  func(ctx context.Context, id fsm.NodeID) (index uint64, err error)
	fresh   atomic.Bool
}

// HasLog reports whether the copy here follows the log, and has caught up with it.
func (f *freshness) HasLog() bool { return f.fresh.Load() && f.cluster.HasLog() }

// run catches up each time that the node comes to have the log.
func (f *freshness) run(ctx context.Context) error {
	for ctx.Err() == nil {
		_, changed := f.cluster.Watch()
		switch has := f.cluster.HasLog(); {
		case !has:
			f.fresh.Store(false)
		case !f.fresh.Load():
			f.catchUp(ctx)
			f.fresh.Store(true)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// lead is told that this node leads and that the barrier has passed: its copy is the
// newest there is.
func (f *freshness) lead() { f.fresh.Store(true) }

// catchUp waits until the copy holds what the leader's held when it was asked. Where
// this node is the leader itself it waits for lead: Raft has a leader before all that
// was committed is applied.
func (f *freshness) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, staleFor)
	defer cancel()
	for ctx.Err() == nil {
		snap, changed := f.cluster.Watch()
		if f.fresh.Load() {
			return
		}
		if snap.HasLeader && snap.Leader.ID != f.cluster.Identity().NodeID {
			index, err := f.leader(ctx, fsm.NodeID(snap.Leader.ID))
			if err == nil {
				_, _ = f.replica.Wait(ctx, index) // the time was up: it is read as it is
				return
			}
		}
		retry := time.NewTimer(100 * time.Millisecond)
		select {
		case <-changed:
		case <-retry.C: // the leader is there, and does not serve yet, or this node has only just come to lead
		case <-ctx.Done():
		}
		retry.Stop()
	}
}

// index asks a node for the index of its state.
func (n nodes) index(ctx context.Context, node fsm.NodeID) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(node)+api.IndexPath, nil)
	if err != nil {
		return 0, err
	}
	resp, err := n.transport.RoundTrip(req)
	if err != nil {
		return 0, fmt.Errorf("ask node %s for its index: %w", node, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return strconv.ParseUint(resp.Header.Get(api.HeaderIndex), 10, 64)
}
