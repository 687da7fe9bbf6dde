package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// leaderDesk is where a node asks whoever leads, on the port of the nodes.
type leaderDesk struct {
	leaders leaders
	nodes   nodes
}

// callWithin is how long a leader is looked for.
const callWithin = 15 * time.Second

// call asks whoever leads, and asks again while leadership changes. answered is false
// where there is nothing to answer with.
func (d leaderDesk) call(ctx context.Context, path string, call, answer any) (answered bool, err error) {
	body, err := json.Marshal(call)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	for {
		changed := d.leaders.Changed()
		if leader, ok := d.leaders.Leader(); ok {
			var again bool
			if answered, again, err = d.ask(ctx, leader, path, body, answer); !again {
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

func (d leaderDesk) ask(ctx context.Context, leader fsm.NodeID, path string, body []byte, answer any) (answered, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(leader)+path, bytes.NewReader(body))
	if err != nil {
		return false, false, err
	}
	resp, err := d.nodes.transport.RoundTrip(req)
	if err != nil {
		return false, ctx.Err() == nil, fmt.Errorf("ask the leader: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return false, false, nil
	case resp.StatusCode == http.StatusOK && answer != nil:
		return true, false, json.NewDecoder(resp.Body).Decode(answer)
	default:
		return false, resp.StatusCode == http.StatusServiceUnavailable, fmt.Errorf("ask the leader: it answered %s", resp.Status)
	}
}
