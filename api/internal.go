package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/codepr/narwhal/fsm"
)

// nodePrefix is where nodes hand each other logs and bundles, on NodeHandler only.
const nodePrefix = "/node/v1"

// NodePath is the path of a bundle on another node's NodeHandler, for GET.
func NodePath(digest string) string { return nodePrefix + "/bundles/" + digest }

func (s *Server) internalRoutes() {
	s.nodes.HandleFunc("GET "+nodePrefix+"/logs/{job}/{attempt}", s.sendLog)
	s.nodes.HandleFunc("GET "+nodePrefix+"/bundles/{digest}", s.sendBundle)
	s.nodes.HandleFunc("PUT "+nodePrefix+"/bundles/{digest}", s.takeBundle)
}

// sendLog gives another node the lines that are here.
func (s *Server) sendLog(w http.ResponseWriter, r *http.Request) {
	job, err := fsm.ParseJobID(r.PathValue("job"))
	attempt, errN := strconv.Atoi(r.PathValue("attempt"))
	offset, errO := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	follow, errF := strconv.ParseBool(r.URL.Query().Get("follow"))
	if err := errors.Join(err, errN, errO, errF); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err).write(w)
		return
	}
	// An answer needs its status before its first line: whether there is a log at
	// all is found out first.
	probe, err := s.deps.Logs.Open(job, attempt, offset)
	if err != nil {
		problem(http.StatusNotFound, CodeNotFound, "%s", errNoLog).write(w)
		return
	}
	_ = probe.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := newLive(w, "\n", s.config.StreamPing)
	defer out.close()
	for line, err := range s.localLines(r.Context(), "", logRef{job, attempt, offset, follow}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.log.Warn("send log to another node", "job", job, "attempt", attempt, "err", err)
			}
			panic(http.ErrAbortHandler) // a log that merely ends would pass for a whole one
		}
		if out.json(line) != nil {
			return
		}
	}
}

func (s *Server) sendBundle(w http.ResponseWriter, r *http.Request) {
	f, size, err := s.deps.Bundles.Open(r.PathValue("digest"))
	if errors.Is(err, ErrNoBundle) {
		problem(http.StatusNotFound, CodeNotFound, "%s", err).write(w)
		return
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.Copy(w, f); err != nil {
		s.log.Debug("send bundle", "err", err)
	}
}

func (s *Server) takeBundle(w http.ResponseWriter, r *http.Request) {
	digest, _, err := s.deps.Bundles.Put(r.Context(), r.Body, s.config.BundleLimit)
	switch {
	case err != nil:
		s.writeError(w, err)
	case digest != r.PathValue("digest"):
		problem(http.StatusUnprocessableEntity, CodeInvalid, "what came has the SHA-256 %s", digest).write(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
