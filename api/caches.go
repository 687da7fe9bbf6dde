package api

import (
	"encoding/json"
	"net/http"

	"github.com/codepr/narwhal/fsm"
)

// CachePath is where a node asks the leader for caches, and tells it of them, by
// POST with a CacheCall.
const CachePath = nodePrefix + "/caches"

// CacheCall is what a node wants of the caches; exactly one field is set.
type CacheCall struct {
	Find *FindCache     `json:"find,omitempty"`
	Save *fsm.SaveCache `json:"save,omitempty"`
	Use  *fsm.UseCache  `json:"use,omitempty"`
	Drop *fsm.DropCache `json:"drop,omitempty"`
}

// FindCache looks for a key in the scopes, in order, and then for the newest one
// that begins with one of Restore. Without any the answer is 204.
type FindCache struct {
	Repo    string   `json:"repo"`
	Scopes  []string `json:"scopes"`
	Key     string   `json:"key"`
	Restore []string `json:"restore,omitempty"`
}

func (s *Server) serveCaches(w http.ResponseWriter, r *http.Request) {
	var call CacheCall
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&call); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err).write(w)
		return
	}
	if call.Find != nil {
		s.findCache(w, r, call.Find)
		return
	}
	c := fsm.Command{SaveCache: call.Save, UseCache: call.Use, DropCache: call.Drop}
	if _, err := s.deps.Proposer.Propose(r.Context(), c); err != nil {
		s.writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// findCache answers at the leader only: a copy that is behind would miss what
// another job has just saved.
func (s *Server) findCache(w http.ResponseWriter, _ *http.Request, f *FindCache) {
	if leader, _ := s.deps.Cluster.Leader(); leader.ID != s.deps.Cluster.Self() {
		s.writeError(w, ErrNotLeader)
		return
	}
	entry, ok := s.deps.State.State().Cache(f.Repo, f.Scopes, f.Key, f.Restore)
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(entry) // the node has gone: it asks again
}
