package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

// Delivery is a webhook that came in, and the node that took it: its record lies there.
type Delivery struct {
	inbox.Delivery
	Node     fsm.NodeID `json:"node"`
	NodeName string     `json:"node_name"`
}

// DeliveryBody is a delivery with what was sent.
type DeliveryBody struct {
	Delivery
	Body string `json:"body,omitempty" doc:"What was sent; absent where it was not signed, or is no text"`
}

// Unasked is a node that could not be asked, so that what it holds is missing.
type Unasked struct {
	Node     fsm.NodeID `json:"node"`
	NodeName string     `json:"node_name"`
	Reason   string     `json:"reason"`
}

// DeliveryList is a list of deliveries, the newest first.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
	Missing    []Unasked  `json:"missing" doc:"Nodes that could not be asked: what they took is not in the list"`
}

func (s *Server) hookRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-hooks", Method: http.MethodGet, Path: prefix + "/hooks", Tags: []string{"webhooks"},
		Summary: "List the webhooks that came in, the newest first", Description: "Those of all nodes. What could not be asked for is named in missing.",
		Middlewares: s.placed(here),
	}, s.listHooks)
	huma.Register(api, huma.Operation{
		OperationID: "show-hook", Method: http.MethodGet, Path: prefix + "/hooks/{id}", Tags: []string{"webhooks"},
		Summary: "Show a webhook that came in, with its body", Middlewares: s.placed(here),
	}, s.showHook)
	huma.Register(api, huma.Operation{
		OperationID: "replay-hook", Method: http.MethodPost, Path: prefix + "/hooks/{id}/replay", Tags: []string{"webhooks"},
		Summary: "Hand a webhook in once more", Description: "A commit that was built answers with the build that it has. With force it is built anew.",
		Middlewares: s.placed(here),
	}, s.replayHook)
}

// replayWithin is how long another node has to replay: it looks for a leader meanwhile.
const replayWithin = 15 * time.Second

// askPeer asks another node and reads its answer into out. The error is a *Problem where
// that is what it answered.
func (s *Server) askPeer(ctx context.Context, to fsm.NodeID, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+string(to)+path, nil)
	if err != nil {
		return err
	}
	resp, err := s.deps.Transport.Node(to).RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		p := &Problem{}
		if json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(p) != nil || p.Detail == "" {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		p.Status = resp.StatusCode
		return p
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxPeerAnswer)).Decode(out)
}

func (s *Server) listHooks(ctx context.Context, in *struct {
	ReadInput
	Repo    string       `query:"repo"`
	Outcome inbox.Status `query:"outcome" enum:"waiting,accepted,known,ignored,refused,failed"`
	Limit   int          `query:"limit" minimum:"1" maximum:"200" default:"50"`
},
) (*struct{ Body DeliveryList }, error) {
	f := inbox.Filter{Repo: in.Repo, Status: in.Outcome, Limit: in.Limit}
	own, err := s.deps.Deliveries.List(f)
	if err != nil {
		return nil, s.asProblem(err)
	}
	names := s.names()
	at := make(map[string]fsm.NodeID)
	for _, d := range own {
		at[d.ID] = s.deps.Cluster.Self()
	}
	found, missing := gather(ctx, s, func(ctx context.Context, id fsm.NodeID) ([]inbox.Delivery, error) {
		var list []inbox.Delivery
		err := s.askPeer(ctx, id, http.MethodGet, hooksPath(f), &list)
		return list, err
	})
	for id, list := range found {
		for _, d := range list {
			at[d.ID] = id
		}
		own = append(own, list...)
	}
	out := &struct{ Body DeliveryList }{DeliveryList{Deliveries: []Delivery{}, Missing: missing}}
	for _, d := range inbox.Newest(own, in.Limit) {
		out.Body.Deliveries = append(out.Body.Deliveries, Delivery{Delivery: d, Node: at[d.ID], NodeName: names[at[d.ID]]})
	}
	return out, nil
}

// HookInput names a delivery.
type HookInput struct {
	ID string `path:"id" maxLength:"64"`
}

func (s *Server) showHook(ctx context.Context, in *struct {
	ReadInput
	HookInput
},
) (*struct{ Body DeliveryBody }, error) {
	d, err := s.findHook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body DeliveryBody }{*d}, nil
}

// findHook looks for a delivery here and then at all other nodes: nothing but its
// record says who took it.
func (s *Server) findHook(ctx context.Context, id string) (*DeliveryBody, error) {
	if !inbox.IDPattern.MatchString(id) {
		return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "%.80q is not the ID of a webhook: `narwhal hooks list` has them", id)
	}
	names := s.names()
	d, body, err := s.deps.Deliveries.Find(id)
	if err == nil {
		return deliveryBody(d, body, s.deps.Cluster.Self(), names), nil
	}
	if !errors.Is(err, inbox.ErrNotFound) {
		return nil, s.asProblem(err)
	}
	found, missing := gather(ctx, s, func(ctx context.Context, node fsm.NodeID) (*heldDelivery, error) {
		var held heldDelivery
		err := s.askPeer(ctx, node, http.MethodGet, hookPath(id), &held)
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusNotFound {
			return nil, nil
		}
		return &held, err
	})
	for node, held := range found {
		if held != nil {
			return deliveryBody(held.Delivery, held.Body, node, names), nil
		}
	}
	if len(missing) > 0 {
		return nil, problem(http.StatusServiceUnavailable, CodeNodeUnreachable,
			"no node that can be reached has webhook %s, and %s can't be asked (%s): try again when it can", id, missing[0].NodeName, missing[0].Reason)
	}
	return nil, problem(http.StatusNotFound, CodeNotFound, "there is no webhook %s: it never was, or it is older than those that are kept", id)
}

func deliveryBody(d inbox.Delivery, body []byte, node fsm.NodeID, names map[fsm.NodeID]string) *DeliveryBody {
	v := &DeliveryBody{Delivery: Delivery{Delivery: d, Node: node, NodeName: names[node]}}
	if utf8.Valid(body) {
		v.Body = string(body)
	}
	return v
}

func (s *Server) replayHook(ctx context.Context, in *struct {
	Idempotency
	HookInput
	Force bool `query:"force" doc:"Build the commit anew, though it was built"`
},
) (*struct{ Body Delivery }, error) {
	d, err := s.findHook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	again := ""
	if in.Force {
		again = in.key()
	}
	out := &struct{ Body Delivery }{d.Delivery}
	if d.Node == s.deps.Cluster.Self() {
		out.Body.Delivery, err = s.deps.Deliveries.Replay(ctx, in.ID, again)
	} else {
		ctx, cancel := context.WithTimeout(ctx, replayWithin)
		defer cancel()
		err = s.askPeer(ctx, d.Node, http.MethodPost, replayPath(in.ID, again), &out.Body.Delivery)
	}
	var p *Problem
	switch {
	case errors.As(err, &p):
		return nil, p
	case errors.Is(err, inbox.ErrUnverified):
		return nil, unverified(err)
	case err != nil && d.Node != s.deps.Cluster.Self():
		return nil, problem(http.StatusServiceUnavailable, CodeNodeUnreachable, "%s, which has the webhook, does not answer (%s): try again", d.NodeName, err)
	case err != nil:
		return nil, s.asProblem(err)
	case out.Body.Status == inbox.Waiting:
		return nil, problem(http.StatusServiceUnavailable, CodeNoLeader, "webhook %s could not be handed in: %s: try again", in.ID, out.Body.Reason)
	case out.Body.Status == inbox.Refused:
		return nil, problem(http.StatusConflict, CodeConflict, "webhook %s is refused: %s", in.ID, out.Body.Reason)
	}
	return out, nil
}

func unverified(err error) *Problem {
	return problem(http.StatusConflict, CodeConflict, "%s", err)
}
