package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/codepr/narwhal/fsm"
)

// GivePath is where the leader has a node give a blob to another one, by POST with a
// GiveCall. The answer is 204, or 404 where the node does not have it.
const GivePath = nodePrefix + "/give"

// GiveCall asks for a copy.
type GiveCall struct {
	Kind   fsm.BlobKind `json:"kind"`
	Digest string       `json:"digest"`
	To     fsm.NodeID   `json:"to"`
}

// HoldersPath is where a node asks who else holds a blob; the answer is an fsm.Blob, or
// 404 where the state does not name it.
func HoldersPath(kind, digest string) string { return nodePrefix + "/holders/" + kind + "/" + digest }

func (s *Server) giveBlob(w http.ResponseWriter, r *http.Request) {
	var call GiveCall
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&call); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err).write(w)
		return
	}
	switch err := s.deps.Giver.Give(r.Context(), call.Kind, call.Digest, call.To); {
	case errors.Is(err, ErrNoBlob):
		problem(http.StatusNotFound, CodeNotFound, "%s", err).write(w)
	case err != nil:
		s.log.Warn("give a copy to another node", "kind", call.Kind, "digest", call.Digest, "to", call.To, "err", err)
		problem(http.StatusServiceUnavailable, CodeNodeUnreachable, "%s", err).write(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) blobHolders(w http.ResponseWriter, r *http.Request) {
	kind, digest := fsm.BlobKind(r.PathValue("kind")), r.PathValue("digest")
	for ref, b := range s.deps.State.State().Blobs() {
		if ref.Kind.Store() == kind.Store() && b.Digest == digest {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(b) // the node has gone: it asks again
			return
		}
	}
	problem(http.StatusNotFound, CodeNotFound, "no blob %s of kind %s is known", digest, kind).write(w)
}
