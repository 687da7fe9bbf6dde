package api

import (
	"encoding/json"
	"net/http"
)

// HeadsPath is where the leader has a node ask a remote for its branches and tags, where
// it can't itself, by POST with a HeadsCall. The answer is a list of RemoteHead.
const HeadsPath = nodePrefix + "/heads"

// HeadsCall names a remote.
type HeadsCall struct {
	CloneURL string `json:"clone_url"`
}

// RemoteHead is what a branch or tag of a remote points at.
type RemoteHead struct {
	Ref string `json:"ref"`
	SHA string `json:"sha"`
}

func (s *Server) askHeads(w http.ResponseWriter, r *http.Request) {
	var call HeadsCall
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&call); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err).write(w)
		return
	}
	if s.deps.Heads == nil {
		problem(http.StatusNotFound, CodeNotFound, "this node runs no jobs, and so no git").write(w)
		return
	}
	heads, err := s.deps.Heads(r.Context(), call.CloneURL)
	if err != nil {
		problem(http.StatusBadGateway, CodeNodeUnreachable, "%s", err).write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(heads) // the node has gone: it asks again
}
