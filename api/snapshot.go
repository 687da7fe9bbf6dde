package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) snapshotRoutes() {
	s.document(&huma.Operation{
		OperationID: "read-snapshot", Method: http.MethodGet, Path: prefix + "/snapshot", Tags: []string{"cluster"},
		Summary: "Read the whole replicated state",
		Description: "In the form that the nodes keep it in; " + HeaderIndex + " is that of the last entry in it. Secrets are in it as ciphertexts, " +
			"the key that opens them is not: `narwhal snapshot save` adds the cluster's keys.",
		Responses: map[string]*huma.Response{"200": {Description: "The state", Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		}}},
	}, withState, s.sendSnapshot)
}

func (s *Server) sendSnapshot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := stateOf(r.Context()).WriteTo(w); err != nil {
		s.log.Debug("send snapshot", "err", err)
		panic(http.ErrAbortHandler) // what merely ends would pass for whole
	}
}
