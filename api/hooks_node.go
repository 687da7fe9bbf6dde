package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

// CommitsPath is where a node hands commits to the leader, on NodeHandler, by POST.
const CommitsPath = nodePrefix + "/commits"

// maxPeerAnswer bounds what another node answers with, in bytes.
const maxPeerAnswer = 32 << 20

func hooksPath(f inbox.Filter) string {
	q := url.Values{"repo": {f.Repo}, "outcome": {string(f.Status)}, "limit": {strconv.Itoa(f.Limit)}}
	return nodePrefix + "/hooks?" + q.Encode()
}

func hookPath(id string) string { return nodePrefix + "/hooks/" + id }

func replayPath(id, again string) string {
	return hookPath(id) + "/replay?" + url.Values{"again": {again}}.Encode()
}

// heldDelivery is a delivery as its node gives it to another one.
type heldDelivery struct {
	Delivery inbox.Delivery `json:"delivery"`
	Body     []byte         `json:"body"`
}

func (s *Server) hookNodeRoutes() {
	s.nodes.HandleFunc("GET "+nodePrefix+"/hooks", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, err := strconv.Atoi(q.Get("limit"))
		if err != nil {
			problem(http.StatusUnprocessableEntity, CodeInvalid, "limit: %s", err).write(w)
			return
		}
		list, err := s.deps.Deliveries.List(inbox.Filter{Repo: q.Get("repo"), Status: inbox.Status(q.Get("outcome")), Limit: limit})
		s.answerNode(w, list, err)
	})
	s.nodes.HandleFunc("GET "+hookPath("{id}"), func(w http.ResponseWriter, r *http.Request) {
		d, body, err := s.deps.Deliveries.Find(r.PathValue("id"))
		s.answerNode(w, heldDelivery{d, body}, err)
	})
	s.nodes.HandleFunc("POST "+hookPath("{id}")+"/replay", func(w http.ResponseWriter, r *http.Request) {
		d, err := s.deps.Deliveries.Replay(r.Context(), r.PathValue("id"), r.URL.Query().Get("again"))
		s.answerNode(w, d, err)
	})
}

func (s *Server) answerNode(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, inbox.ErrNotFound):
		problem(http.StatusNotFound, CodeNotFound, "%s", err).write(w)
	case errors.Is(err, inbox.ErrUnverified):
		unverified(err).write(w)
	case err != nil:
		s.writeError(w, err)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the node has gone: it asks again
	}
}

// gather asks all other nodes at once. What is missing says who could not be asked.
func gather[T any](ctx context.Context, s *Server, ask func(context.Context, fsm.NodeID) (T, error)) (found map[fsm.NodeID]T, missing []Unasked) {
	found, missing = make(map[fsm.NodeID]T), []Unasked{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	miss := func(m Member, reason string) {
		missing = append(missing, Unasked{Node: m.ID, NodeName: m.Name, Reason: reason})
	}
	for _, m := range s.deps.Cluster.Members() {
		if m.ID == s.deps.Cluster.Self() {
			continue
		}
		asking.Go(func() {
			if !m.Alive {
				mu.Lock()
				defer mu.Unlock()
				miss(m, "it is away")
				return
			}
			ctx, cancel := context.WithTimeout(ctx, s.config.AskWithin)
			defer cancel()
			v, err := ask(ctx, m.ID)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				miss(m, err.Error())
				return
			}
			found[m.ID] = v
		})
	}
	asking.Wait()
	slices.SortFunc(missing, func(a, b Unasked) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return found, missing
}

// names are the nodes' names, by ID.
func (s *Server) names() map[fsm.NodeID]string {
	names := make(map[fsm.NodeID]string)
	for _, m := range s.deps.Cluster.Members() {
		names[m.ID] = m.Name
	}
	return names
}
