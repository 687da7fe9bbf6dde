package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// crew is the cluster at full strength.
type crew struct {
	hands  []hand
	leader fsm.NodeID
}

// hand is one of its nodes.
type hand struct {
	api.Node
	client *client.Client // of this node alone, and without patience: whoever asks, asks again
	ahead  time.Duration  // how far its clock is ahead of this process's
	drills bool
}

// settled waits until every node is there, one leads, as many vote as should, and
// nothing of the drill is under way.
func (d *drill) settled(ctx context.Context) (*crew, error) {
	ctx, cancel := context.WithTimeout(ctx, settlesWithin)
	defer cancel()
	var found *crew
	err := lab.Await(ctx, "the cluster to be at full strength", func(ctx context.Context) (bool, error) {
		nodes, err := d.Client.Nodes(ctx)
		if err != nil {
			return false, err
		}
		if found, err = d.muster(ctx, nodes); err != nil {
			return false, err
		}
		return true, nil
	})
	return found, err
}

// muster asks each node for how it stands.
func (d *drill) muster(ctx context.Context, nodes []api.Node) (*crew, error) {
	w := &crew{}
	voters := 0
	for _, n := range nodes {
		if !n.Alive {
			return nil, fmt.Errorf("node %s is not there: a drill begins with all nodes alive", n.Name)
		}
		h := hand{Node: n}
		var err error
		if h.client, err = client.New(client.Config{Addrs: []string{n.APIAddr}, Token: d.Token, Patience: time.Nanosecond}); err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		asked := time.Now()
		s, err := h.client.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		h.ahead = s.Time.Sub(asked.Add(time.Since(asked) / 2)) // half of the way there and back
		h.drills = s.Drill
		if n.Leader {
			w.leader = n.ID
		}
		if n.Role == "voter" {
			voters++
		}
		w.hands = append(w.hands, h)
	}
	switch {
	case w.leader == "":
		return nil, errors.New("no node leads")
	case voters < lab.Voters(len(w.hands)):
		return nil, fmt.Errorf("%d nodes vote, and %d should", voters, lab.Voters(len(w.hands)))
	}
	return w, nil
}

// fit says why this cluster can't be drilled.
func (w *crew) fit(crash bool) error {
	if w.voters() < 3 {
		return fmt.Errorf("%d of %d nodes vote: a cluster stands the death of its leader from three nodes on", w.voters(), len(w.hands))
	}
	var shy []string
	for _, h := range w.hands {
		if !h.drills {
			shy = append(shy, h.Name)
		}
	}
	if crash && len(shy) > 0 {
		return fmt.Errorf("%s do not take part: start every node with --allow-drill", strings.Join(shy, ", "))
	}
	return nil
}

func (w *crew) voters() (n int) {
	for _, h := range w.hands {
		if h.Role == "voter" {
			n++
		}
	}
	return n
}

// executors are how the nodes run jobs.
func (w *crew) executors() []string {
	var all []string
	for _, h := range w.hands {
		if h.Executor != "" && !slices.Contains(all, h.Executor) {
			all = append(all, h.Executor)
		}
	}
	return all
}

func (w *crew) hand(id fsm.NodeID) hand {
	for _, h := range w.hands {
		if h.ID == id {
			return h
		}
	}
	return hand{Node: api.Node{ID: id}}
}

// busiest is the node with the most running jobs that does not lead.
func (w *crew) busiest(ctx context.Context, c *client.Client) (hand, error) {
	page, err := c.Jobs(ctx, client.Filter{Status: fsm.Running, Limit: 200})
	if err != nil {
		return hand{}, err
	}
	jobs := make(map[fsm.NodeID]int)
	for _, j := range page.Jobs {
		jobs[j.Node]++
	}
	var most hand
	for _, h := range w.hands {
		if h.ID != w.leader && jobs[h.ID] > jobs[most.ID] {
			most = h
		}
	}
	if most.ID == "" {
		return hand{}, errors.New("no node but the leader runs a job")
	}
	return most, nil
}

// successor waits until the nodes but old say that another leads, and tells when the first
// one said so.
func (w *crew) successor(ctx context.Context, old fsm.NodeID) (next hand, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = lab.Await(ctx, "another leader", func(ctx context.Context) (bool, error) {
		for _, h := range w.hands {
			if h.ID == old {
				continue
			}
			if l, err := h.client.Leader(ctx); err == nil && l.ID != old {
				next, at = w.hand(l.ID), time.Now()
				return true, nil
			}
		}
		return false, nil
	})
	return next, at, err
}

// diverged counts the voters whose state differs from the leader's.
func (w *crew) diverged(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var others []*client.Client
	for _, h := range w.hands {
		if h.Role == "voter" && h.ID != w.leader {
			others = append(others, h.client)
		}
	}
	return lab.Diverged(ctx, w.hand(w.leader).client, others)
}
