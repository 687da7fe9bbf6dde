package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

func (s *Server) nodeRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-nodes", Method: http.MethodGet, Path: prefix + "/nodes", Tags: []string{"nodes"},
		Summary: "List nodes", Middlewares: s.placed(withState),
	}, s.listNodes)
	huma.Register(api, huma.Operation{
		OperationID: "show-node", Method: http.MethodGet, Path: prefix + "/nodes/{id}", Tags: []string{"nodes"},
		Summary: "Show a node", Description: "By its ID or its name.", Middlewares: s.placed(withState),
	}, s.showNode)
	huma.Register(api, huma.Operation{
		OperationID: "drain-node", Method: http.MethodPost, Path: prefix + "/nodes/{id}/drain", Tags: []string{"nodes"},
		Summary: "Give a node no new jobs", Description: "What runs on it runs on, until the deadline, if there is one. The last word counts, also on that.",
		Middlewares: s.placed(redirect),
	}, s.drainNode)
	huma.Register(api, huma.Operation{
		OperationID: "resume-node", Method: http.MethodPost, Path: prefix + "/nodes/{id}/resume", Tags: []string{"nodes"},
		Summary: "Give a drained node jobs again", Middlewares: s.placed(redirect),
	}, func(ctx context.Context, in *NodeInput) (*nodeOutput, error) {
		return s.setDrain(ctx, in.ID, fsm.DrainNode{})
	})
	huma.Register(api, huma.Operation{
		OperationID: "leave", Method: http.MethodPost, Path: prefix + "/leave", Tags: []string{"nodes"},
		Summary: "Take the node that is asked out of the cluster for good", Middlewares: s.placed(here),
	}, s.leave)
}

type nodeList struct {
	Body struct {
		Nodes []Node `json:"nodes"`
	}
}

func (s *Server) listNodes(ctx context.Context, _ *ReadInput) (*nodeList, error) {
	out := &nodeList{}
	out.Body.Nodes = append([]Node{}, nodeViews(stateOf(ctx), s.deps.Cluster.Members())...)
	return out, nil
}

// NodeInput names a node.
type NodeInput struct {
	ID string `path:"id" maxLength:"128"`
}

type nodeOutput struct {
	Index uint64 `header:"X-Narwhal-Index"`
	Body  Node
}

func (s *Server) showNode(ctx context.Context, in *struct {
	ReadInput
	NodeInput
},
) (*nodeOutput, error) {
	return s.nodeIn(stateOf(ctx), in.ID)
}

func (s *Server) nodeIn(state *fsm.State, text string) (*nodeOutput, error) {
	var found *Node
	for _, n := range nodeViews(state, s.deps.Cluster.Members()) {
		if string(n.ID) == text {
			return &nodeOutput{Index: state.Index(), Body: n}, nil
		}
		if n.Name == text {
			if found != nil {
				return nil, problem(http.StatusConflict, CodeConflict, "two nodes are named %q: use the ID, %s or %s", text, found.ID, n.ID)
			}
			found = &n
		}
	}
	if found == nil {
		return nil, problem(http.StatusNotFound, CodeNotFound, "there is no node %q: `narwhal nodes` lists them", text)
	}
	return &nodeOutput{Index: state.Index(), Body: *found}, nil
}

func (s *Server) drainNode(ctx context.Context, in *struct {
	NodeInput
	Deadline string `query:"deadline" example:"30m" doc:"How long what runs there may go on; what is left then is stopped and runs elsewhere. By default for ever"`
},
) (*nodeOutput, error) {
	c := fsm.DrainNode{Drain: true}
	if in.Deadline != "" {
		d, err := time.ParseDuration(in.Deadline)
		if err != nil || d < 0 {
			return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "deadline %q: want a time such as 30m, or 0s to move all at once", in.Deadline)
		}
		c.Until = s.config.Now().Add(d)
	}
	return s.setDrain(ctx, in.ID, c)
}

func (s *Server) setDrain(ctx context.Context, text string, c fsm.DrainNode) (*nodeOutput, error) {
	n, err := s.nodeIn(stateOf(ctx), text)
	if err != nil {
		return nil, err
	}
	c.Node, c.By = n.Body.ID, byAPI
	result, err := s.deps.Proposer.Propose(ctx, fsm.Command{DrainNode: &c})
	if err != nil {
		return nil, s.asProblem(err)
	}
	if n, err = s.nodeIn(s.deps.State.State(), string(n.Body.ID)); err != nil {
		return nil, err
	}
	n.Index = result.Index
	return n, nil
}

type leaveOutput struct {
	Body struct {
		Node fsm.NodeID `json:"node"`
		Left bool       `json:"left"`
	}
}

func (s *Server) leave(ctx context.Context, _ *struct{}) (*leaveOutput, error) {
	if err := s.deps.Cluster.Leave(ctx); err != nil {
		return nil, problem(http.StatusConflict, CodeConflict, "%s", err)
	}
	out := &leaveOutput{}
	out.Body.Node, out.Body.Left = s.deps.Cluster.Self(), true
	return out, nil
}
