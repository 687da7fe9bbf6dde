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

// BlobPath is the path of a blob on another node's NodeHandler, for GET and PUT.
func BlobPath(digest string) string { return nodePrefix + "/blobs/" + digest }

// CopiesPath is where a node takes what others send of their logs, on NodeHandler, by
// POST.
const CopiesPath = nodePrefix + "/copies"

// SealedPath is the path of a sealed log on another node's NodeHandler, for GET and PUT.
func SealedPath(digest string) string { return nodePrefix + "/sealed/" + digest }

// NodePath is the path of a bundle on another node's NodeHandler, for GET.
func NodePath(digest string) string { return nodePrefix + "/bundles/" + digest }

// IndexPath answers with the index of the node's state, in HeaderIndex.
const IndexPath = nodePrefix + "/index"

func (s *Server) internalRoutes() {
	s.nodes.HandleFunc("GET "+IndexPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderIndex, strconv.FormatUint(s.deps.State.State().Index(), 10))
		w.WriteHeader(http.StatusNoContent)
	})
	s.nodes.HandleFunc("GET "+nodePrefix+"/logs/{job}/{attempt}", s.sendLog)
	s.nodes.HandleFunc("GET "+nodePrefix+"/bundles/{digest}", s.sendBundle)
	s.nodes.HandleFunc("PUT "+nodePrefix+"/bundles/{digest}", s.takeBundle)
	s.nodes.HandleFunc("GET "+BlobPath("{digest}"), s.sendBlob(s.deps.Blobs))
	s.nodes.HandleFunc("PUT "+BlobPath("{digest}"), s.takeBlob(s.deps.Blobs))
	s.nodes.HandleFunc("GET "+SealedPath("{digest}"), s.sendBlob(s.deps.Sealed))
	s.nodes.HandleFunc("PUT "+SealedPath("{digest}"), s.takeBlob(s.deps.Sealed))
	s.nodes.Handle("POST "+CopiesPath, s.deps.Copies)
	s.nodes.Handle("POST "+CommitsPath, s.deps.Commits)
	s.hookNodeRoutes()
	s.nodes.HandleFunc("POST "+HeadsPath, s.askHeads)
	s.nodes.HandleFunc("POST "+SealsPath, s.enterSeals)
	s.nodes.HandleFunc("POST "+GivePath, s.giveBlob)
	s.nodes.HandleFunc("GET "+HoldersPath("{kind}", "{digest}"), s.blobHolders)
	s.nodes.HandleFunc("POST "+CachePath, s.serveCaches)
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
	for line, err := range s.localLines(r.Context(), logRef{job, attempt, offset, follow}) {
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

// A node's stores as other nodes reach them.

func (s *Server) sendBundle(w http.ResponseWriter, r *http.Request) {
	f, size, err := s.deps.Bundles.Open(r.PathValue("digest"))
	s.sendStored(w, f, size, err)
}

func (s *Server) takeBundle(w http.ResponseWriter, r *http.Request) {
	digest, _, err := s.deps.Bundles.Put(r.Context(), r.Body, s.config.BundleLimit)
	s.answerStored(w, r, digest, err)
}

func (s *Server) sendBlob(from Blobs) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, size, err := from.Open(r.PathValue("digest"))
		s.sendStored(w, f, size, err)
	}
}

func (s *Server) takeBlob(to Blobs) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		digest, _, err := to.Put(r.Context(), r.Body, s.config.BlobLimit)
		s.answerStored(w, r, digest, err)
	}
}

// sendStored sends what a store has opened.
func (s *Server) sendStored(w http.ResponseWriter, f io.ReadCloser, size int64, err error) {
	if errors.Is(err, ErrNoBundle) || errors.Is(err, ErrNoBlob) {
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
		s.log.Debug("send to another node", "err", err)
	}
}

// answerStored says whether what came is what the sender meant.
func (s *Server) answerStored(w http.ResponseWriter, r *http.Request, digest string, err error) {
	switch {
	case err != nil:
		s.writeError(w, err)
	case digest != r.PathValue("digest"):
		problem(http.StatusUnprocessableEntity, CodeInvalid, "what came has the SHA-256 %s", digest).write(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
