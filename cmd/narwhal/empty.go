package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// lookAgain is the pause between two looks at a node that is emptied.
const lookAgain = 500 * time.Millisecond

// drain keeps new jobs off a node and returns when the last one on it has ended.
// A node that never ran jobs is empty as it is.
func (n *node) drain(ctx context.Context, id fsm.NodeID) error {
	placed, known, err := n.askLeader(ctx, http.MethodPost, "/api/v1/nodes/"+string(id)+"/drain")
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for err == nil && known && placed > 0 {
		select {
		case <-ticker.C:
			placed, known, err = n.askLeader(ctx, http.MethodGet, "/api/v1/nodes/"+string(id))
		case <-ctx.Done():
			return fmt.Errorf("%d jobs still run on node %s: %w", placed, id, ctx.Err())
		}
	}
	return err
}

func (n *node) resume(ctx context.Context, id fsm.NodeID) error {
	_, _, err := n.askLeader(ctx, http.MethodPost, "/api/v1/nodes/"+string(id)+"/resume")
	return err
}

// askLeader calls the leader's API over the cluster's own port, and reads how
// many jobs are placed on the node that it answers with. A node that is not known
// runs none.
func (n *node) askLeader(ctx context.Context, method, path string) (placed int, known bool, err error) {
	leader, _, ok := n.cluster.Leader()
	if !ok {
		return 0, false, fmt.Errorf("%s %s: there is no leader now; try again", method, path)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+leader.ID+path, nil)
	if err != nil {
		return 0, false, err
	}
	req.Header.Set("Authorization", "Bearer "+n.auth.Token())
	resp, err := (&http.Client{Transport: n.nodes.transport}).Do(req)
	if err != nil {
		return 0, false, fmt.Errorf("ask the leader: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, false, fmt.Errorf("ask the leader: %w", err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return 0, false, nil
	}
	if resp.StatusCode != http.StatusOK {
		return 0, false, fmt.Errorf("ask the leader: %s: %s", resp.Status, body)
	}
	var answer struct {
		Jobs int `json:"jobs"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, false, fmt.Errorf("read the leader's answer: %w", err)
	}
	return answer.Jobs, true, nil
}
