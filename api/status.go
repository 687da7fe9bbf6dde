package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

func (s *Server) statusRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "show-leader", Method: http.MethodGet, Path: prefix + "/leader", Tags: []string{"cluster"},
		Summary: "Say which node leads", Middlewares: s.placed(here),
	}, s.showLeader)
	huma.Register(api, huma.Operation{
		OperationID: "show-status", Method: http.MethodGet, Path: prefix + "/status", Tags: []string{"cluster"},
		Summary: "Say how the cluster stands", Middlewares: s.placed(withState),
	}, s.showStatus)
	huma.Register(api, huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: prefix + "/health", Tags: []string{"cluster"},
		Summary: "Say whether this node can serve", Description: "Needs no token. 503 while it knows no leader.", Security: noToken, Middlewares: s.placed(here),
	}, s.health)
	huma.Register(api, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: []string{"cluster"},
		Summary: "The same as /api/v1/health", Security: noToken, Middlewares: s.placed(here),
	}, s.health)
}

// LeaderView is the node that leads.
type LeaderView struct {
	ID      fsm.NodeID `json:"id"`
	Name    string     `json:"name,omitempty"`
	APIAddr string     `json:"api_addr"`
	Self    bool       `json:"self" doc:"It is the node that answers"`
}

func (s *Server) showLeader(_ context.Context, _ *struct{}) (*struct{ Body LeaderView }, error) {
	leader, _ := s.deps.Cluster.Leader()
	if leader.ID == "" {
		return nil, problem(http.StatusServiceUnavailable, CodeNoLeader, "the cluster has no leader now: %s", s.deps.Cluster.Health().Tolerance)
	}
	return &struct{ Body LeaderView }{s.leaderView(leader)}, nil
}

func (s *Server) leaderView(leader Leader) LeaderView {
	v := LeaderView{ID: leader.ID, APIAddr: leader.APIAddr, Self: leader.ID == s.deps.Cluster.Self()}
	for _, m := range s.deps.Cluster.Members() {
		if m.ID == leader.ID {
			v.Name = m.Name
		}
	}
	return v
}

// Status is how the cluster stands.
type Status struct {
	Health
	Node    fsm.NodeID  `json:"node" doc:"The node that answers"`
	Version string      `json:"version" doc:"Its"`
	Leader  *LeaderView `json:"leader,omitempty"`
	Index   uint64      `json:"index"`
	Time    time.Time   `json:"time" doc:"By the clock of the node that answers"`
	Drill   bool        `json:"drill" doc:"The node that answers takes part in drills"`
	Members []Member    `json:"members"`
	// Mixed is empty where all nodes that are there have one version.
	Mixed string `json:"mixed_versions,omitempty" doc:"Says which nodes have which version, where there are several"`
	// Disagreement is empty where all is well.
	Disagreement string `json:"disagreement,omitempty" doc:"Says which nodes have which bucket, where it is not the same one"`
	Builds       struct {
		Kept int `json:"kept"`
		Live int `json:"live" doc:"Have not ended"`
	} `json:"builds"`
	Jobs struct {
		Queued int `json:"queued" doc:"Wait for a node"`
		Placed int `json:"placed" doc:"Lie on a node"`
	} `json:"jobs"`
	Events struct {
		Waiting int    `json:"waiting"`
		Dropped uint64 `json:"dropped"`
	} `json:"events"`
}

func (s *Server) showStatus(ctx context.Context, _ *ReadInput) (*struct{ Body Status }, error) {
	state := stateOf(ctx)
	v := Status{
		Health: s.deps.Cluster.Health(), Node: s.deps.Cluster.Self(), Version: s.config.Version,
		Index: state.Index(), Time: s.config.Now(), Drill: s.deps.Crash != nil, Members: append([]Member{}, s.deps.Cluster.Members()...),
	}
	if leader, _ := s.deps.Cluster.Leader(); leader.ID != "" {
		view := s.leaderView(leader)
		v.Leader = &view
	}
	v.Disagreement, v.Mixed = disagreement(v.Members), mixed(v.Members)
	v.Builds.Kept, v.Builds.Live = state.BuildCount(), state.LiveBuilds()
	v.Jobs.Queued, v.Jobs.Placed = state.QueuedCount(), state.PlacedCount()
	v.Events.Waiting, v.Events.Dropped = state.OutboxLen()
	return &struct{ Body Status }{v}, nil
}

type healthOutput struct {
	Body struct {
		Status string `json:"status" enum:"ok"`
	}
}

func (s *Server) health(context.Context, *struct{}) (*healthOutput, error) {
	if leader, _ := s.deps.Cluster.Leader(); leader.ID == "" {
		return nil, problem(http.StatusServiceUnavailable, CodeNoLeader, "this node knows no leader now")
	}
	out := &healthOutput{}
	out.Body.Status = "ok"
	return out, nil
}

// mixed says in words which nodes that are there have which version; empty where they
// all have the same.
func mixed(members []Member) string {
	with := make(map[string][]string)
	for _, m := range members {
		if m.Alive {
			with[m.Version] = append(with[m.Version], cmp.Or(m.Name, string(m.ID)))
		}
	}
	if len(with) < 2 {
		return ""
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(with)) {
		parts = append(parts, fmt.Sprintf("%s on %s", version, strings.Join(slices.Sorted(slices.Values(with[version])), ", ")))
	}
	return strings.Join(parts, "; ") + ": finish the upgrade; what only the newer know is held back until all nodes can apply it"
}
