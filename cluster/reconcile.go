package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	changeTimeout = 5 * time.Second
	askTimeout    = time.Second
	avoidFor      = 10 * time.Second // a node that did not answer, or was just removed
	maxTrailing   = 250              // entries behind that still count as caught up
)

// keeper keeps the voter set as decide wants it, for one tenure.
type keeper struct {
	c        *Cluster
	raft     *raft.Raft
	caughtUp map[string]time.Time // since when
	avoid    map[string]time.Time // until when
}

// keepVoters is the leader's loop around decide: one change at a time.
func (c *Cluster) keepVoters(ctx context.Context, _ uint64) error {
	k := &keeper{c: c, raft: c.raft.Load(), caughtUp: map[string]time.Time{}, avoid: map[string]time.Time{}}
	for wait(ctx, c.cfg.Reconcile) {
		for ctx.Err() == nil {
			e, index, err := k.survey(ctx, time.Now())
			if err != nil {
				return err
			}
			step := decide(e)
			if step.Kind == changeNone {
				break
			}
			c.log.Info("change the voters", "what", string(step.Kind), "node", step.ID, "why", step.Reason)
			if err := k.do(ctx, step, index); err != nil {
				c.log.Warn("change the voters", "what", string(step.Kind), "node", step.ID, "err", err)
				k.avoid[step.ID] = time.Now().Add(avoidFor)
				break
			}
		}
	}
	return nil
}

// survey gathers what decide looks at. Only non-voters are asked: of the others
// gossip and Raft know enough.
func (k *keeper) survey(ctx context.Context, now time.Time) (electorate, uint64, error) {
	future := k.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return electorate{}, 0, fmt.Errorf("read configuration: %w", logError(err))
	}
	cfg := k.c.cfg
	e := electorate{Self: k.c.nodeID, MaxVoters: cfg.MaxVoters, DeadVoterAfter: cfg.DeadVoterAfter}
	var ask []string
	for _, s := range future.Configuration().Servers {
		voter := s.Suffrage == raft.Voter
		e.Servers = append(e.Servers, server{ID: string(s.ID), Voter: voter})
		if !voter {
			ask = append(ask, string(s.ID))
		}
	}
	k.ask(ctx, ask, now)
	snap, _ := k.c.board.watch()
	for _, m := range snap.Members {
		since, ok := k.caughtUp[m.ID]
		x := candidate{ID: m.ID, State: m.State, Role: m.Role, Leaving: m.Leaving, Zone: m.Offer.Zone, Started: m.Started,
			CaughtUp: ok, Ready: ok && now.Sub(since) >= cfg.StabilizationTime, Avoid: now.Before(k.avoid[m.ID]), InLog: m.InLog}
		if m.State != Alive {
			x.GoneFor = now.Sub(m.Since)
		}
		if m.ID == k.c.nodeID {
			x.Leaving = k.c.leaving.Load() // gossip may not have told this node of itself yet
		}
		e.Members = append(e.Members, x)
	}
	e.Members = k.addUnseen(e, now)
	return e, future.Index(), nil
}

// addUnseen has servers that gossip has not shown yet count as gone since this
// node became leader, not for ever.
func (k *keeper) addUnseen(e electorate, now time.Time) []candidate {
	for _, s := range e.Servers {
		if !slices.ContainsFunc(e.Members, func(m candidate) bool { return m.ID == s.ID }) {
			e.Members = append(e.Members, candidate{ID: s.ID, State: Dead, GoneFor: now.Sub(k.c.startedAt)})
		}
	}
	return e.Members
}

// ask finds out which non-voters have caught up.
func (k *keeper) ask(ctx context.Context, ids []string, now time.Time) {
	var wg sync.WaitGroup
	answers := make([]error, len(ids))
	for i, id := range ids {
		wg.Go(func() { answers[i] = k.behind(ctx, id) })
	}
	wg.Wait()
	for i, id := range ids {
		if answers[i] != nil {
			k.c.log.Debug("non-voter is not ready", "node", id, "err", answers[i])
			delete(k.caughtUp, id)
			continue
		}
		if _, ok := k.caughtUp[id]; !ok {
			k.caughtUp[id] = now
		}
	}
	for id := range k.caughtUp {
		if !slices.Contains(ids, id) {
			delete(k.caughtUp, id)
		}
	}
}

// behind is nil when the node follows this one closely.
func (k *keeper) behind(ctx context.Context, id string) error {
	s, err := k.c.ask(ctx, id)
	if err != nil {
		return err
	}
	switch last := k.raft.LastIndex(); {
	case s.Term != k.raft.CurrentTerm():
		return fmt.Errorf("its term is %d", s.Term)
	case s.LastIndex+maxTrailing < last:
		return fmt.Errorf("it has %d of %d entries", s.LastIndex, last)
	case s.LastContact < 0 || s.LastContact > k.c.cfg.HeartbeatTimeout:
		return errors.New("it does not hear from this node")
	}
	return nil
}

// do makes one change. index is the configuration's that it was decided on: Raft
// refuses it when that has changed.
func (k *keeper) do(ctx context.Context, step change, index uint64) error {
	id := raft.ServerID(step.ID)
	addr, known := k.c.board.address(step.ID)
	switch step.Kind {
	case changeAdd:
		if !known {
			return ErrUnknownNode
		}
		if _, err := k.c.ask(ctx, step.ID); err != nil {
			return err
		}
		return k.raft.AddNonvoter(id, raft.ServerAddress(addr), index, changeTimeout).Error()
	case changePromote:
		if err := k.behind(ctx, step.ID); err != nil {
			return err
		}
		return k.raft.AddVoter(id, raft.ServerAddress(addr), index, changeTimeout).Error()
	case changeRemove:
		k.avoid[step.ID] = time.Now().Add(avoidFor)
		return k.raft.RemoveServer(id, index, changeTimeout).Error()
	case changeTransfer:
		return k.c.handOver()
	}
	return fmt.Errorf("unknown change %q", step.Kind)
}
