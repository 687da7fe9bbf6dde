package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/heads"
)

// headsWatcher finds what was pushed while nobody was told; it is the leader's.
func (n *node) headsWatcher() *heads.Watcher {
	return heads.New(heads.Config{
		Watch: n.replica.Watch, Look: n.look, Propose: n.proposer.ProposeAll, Log: n.log.With("part", "heads"),
		Check: func(c fsm.Commit) error { return agent.CheckCommit(c, n.cfg.protocols) },
	})
}

// remoteHeads asks a remote from here; nil on a witness.
func (n *node) remoteHeads() func(ctx context.Context, cloneURL string) ([]api.RemoteHead, error) {
	if n.runner == nil {
		return nil
	}
	return func(ctx context.Context, cloneURL string) ([]api.RemoteHead, error) {
		found, err := n.runner.mirrors.Heads(ctx, cloneURL)
		out := make([]api.RemoteHead, len(found))
		for i, h := range found {
			out[i] = api.RemoteHead(h)
		}
		return out, err
	}
}

// look asks a remote from here, or has another node do it where this one is a witness.
func (n *node) look(ctx context.Context, cloneURL string) ([]heads.Head, error) {
	var found []api.RemoteHead
	var err error
	if here := n.remoteHeads(); here != nil {
		found, err = here(ctx, cloneURL)
	} else {
		found, err = n.lookElsewhere(ctx, cloneURL)
	}
	out := make([]heads.Head, len(found))
	for i, h := range found {
		out[i] = heads.Head(h)
	}
	return out, err
}

func (n *node) lookElsewhere(ctx context.Context, cloneURL string) (found []api.RemoteHead, err error) {
	failed := []error{errors.New("no node that runs jobs could ask")}
	for _, id := range ranked(n.cluster)(cloneURL) {
		if found, err = n.nodes.askHeads(ctx, id, cloneURL); err == nil {
			return found, nil
		}
		failed = append(failed, fmt.Errorf("node %s: %w", id, err))
	}
	return nil, errors.Join(failed...)
}

func (n nodes) askHeads(ctx context.Context, id fsm.NodeID, cloneURL string) (found []api.RemoteHead, err error) {
	body, err := json.Marshal(api.HeadsCall{CloneURL: cloneURL})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(id)+api.HeadsPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := n.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	const most = 32 << 20
	text := io.LimitReader(resp.Body, most)
	if resp.StatusCode == http.StatusOK {
		err = json.NewDecoder(text).Decode(&found)
		return found, err
	}
	var p api.Problem
	if json.NewDecoder(text).Decode(&p) != nil || p.Detail == "" {
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	return nil, errors.New(p.Detail)
}
