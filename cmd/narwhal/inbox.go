package main

import (
	"context"
	"path/filepath"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

// openHooks makes what takes webhooks, and opens their record.
func (n *node) openHooks() (err error) {
	log := n.log.With("part", "agent")
	if n.inbox, err = inbox.Open(filepath.Join(n.cfg.dataDir, "inbox.db"), inbox.Bounds{}, log); err != nil {
		return err
	}
	config := n.cfg.webhooks.agent(n.cfg.protocols)
	config.Authorize = n.auth.Authorized
	toLeader := agent.LeaderQueue{Call: func(ctx context.Context, call, answer any) error {
		_, err := leaderDesk{leaders{n.cluster}, n.nodes}.call(ctx, api.CommitsPath, call, answer)
		return err
	}}
	var queue agent.Queue = toLeader
	if n.publisher != nil {
		queue = n.publisher
	}
	n.hooks, err = agent.NewHooks(config, queue, agent.Record{Inbox: n.inbox, Again: toLeader.Again}, log)
	return err
}

// desk takes what nodes hand to this one while it leads.
func (n *node) desk() *agent.Desk {
	return &agent.Desk{
		Proposer: n.proposer, Overtaken: n.overtaken, Log: n.log.With("part", "agent"),
		Made: func(key string) (fsm.BuildID, bool) {
			if b, ok := n.replica.State().BuildByKey(key); ok {
				return b.ID, true
			}
			return 0, false
		},
	}
}

// deliveries are the webhooks that came to this node, as the API shows them.
type deliveries struct {
	*inbox.Inbox
	hooks *agent.Hooks
}

// Replay implements api.Deliveries.
func (d deliveries) Replay(ctx context.Context, id, again string) (inbox.Delivery, error) {
	return d.hooks.Replay(ctx, id, again)
}

// overtaken asks this node's state. That may be a moment old: then a deletion that is
// old news is taken for one that is not, and never the other way round.
func (n *node) overtaken(d agent.Deletion) bool {
	return n.replica.State().Overtaken(d.Repo, d.Branch, d.Head)
}
