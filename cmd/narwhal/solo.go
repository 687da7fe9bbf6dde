package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/replica"
	"github.com/codepr/narwhal/runner"
	"github.com/codepr/narwhal/sched"
)

// solo is a cluster without a network, in this process alone, for `narwhal run`: the
// state, the dispatcher and the runner are a node's own, the log is a counter.
//
//	memoryLog ──▶ replica ──▶ dispatcher ◀── pipe ──▶ runner
type solo struct {
	replica    *replica.Replica
	proposer   *replica.Proposer
	dispatcher *sched.Dispatcher
}

func newSolo(log *slog.Logger) *solo {
	s := &solo{replica: replica.New()}
	s.proposer = replica.NewProposer(&memoryLog{replica: s.replica}, time.Now, nil)
	s.dispatcher = sched.NewDispatcher(sched.Config{
		States: s.replica, Proposer: s.proposer, Membership: nobodyLeaves{}, Now: time.Now, Log: log,
	})
	return s
}

// leader is the dispatcher as the runner dials it.
func (s *solo) leader(node fsm.NodeID) pipedLeader { return pipedLeader{s.dispatcher, node} }

// memoryLog orders entries and forgets them.
type memoryLog struct {
	replica *replica.Replica

	mu    sync.Mutex
	index uint64
}

// Apply implements replica.Log.
func (l *memoryLog) Apply(_ context.Context, entry []byte) (uint64, any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	result, err := l.replica.Apply(l.index, 1, entry)
	return l.index, result, err
}

// nobodyLeaves is the membership of a cluster of one.
type nobodyLeaves struct{}

func (nobodyLeaves) Departed() ([]fsm.NodeID, <-chan struct{}) { return nil, nil }

// pipedLeader is a stream to the dispatcher without a network.
type pipedLeader struct {
	dispatcher *sched.Dispatcher
	node       fsm.NodeID
}

var _ runner.Leader = pipedLeader{}

// Run implements runner.Leader.
func (l pipedLeader) Run(ctx context.Context, session link.Session) error {
	for ctx.Err() == nil {
		if err := l.stream(ctx, session); err != nil {
			return err
		}
		pause := time.NewTimer(10 * time.Millisecond) // the dispatcher may not have begun
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
	return nil
}

func (l pipedLeader) stream(ctx context.Context, session link.Session) error {
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	mine, theirs, err := link.Pipe(ctx)
	if err != nil {
		return err
	}
	served.Go(func() {
		defer cancel()
		_ = link.Greet(ctx, l.dispatcher, l.node, theirs) // the session's end says the same
	})
	_ = session(ctx, mine) // it is begun again
	return nil
}
