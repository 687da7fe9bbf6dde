package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

// Pushed is the answer to a push.
type Pushed struct {
	Build  Build        `json:"build"`
	Bundle string       `json:"bundle" doc:"The SHA-256 of what was pushed"`
	Size   int64        `json:"size" doc:"Its bytes"`
	Copies int          `json:"copies" doc:"On how many nodes it lies: 2, or 1 in a cluster of one"`
	Nodes  []fsm.NodeID `json:"nodes"`
}

func (s *Server) pushRoutes() {
	param := func(name, description string, required bool) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: description, Required: required, Schema: &huma.Schema{Type: "string"}}
	}
	s.document(&huma.Operation{
		OperationID: "push", Method: http.MethodPost, Path: prefix + "/push", Tags: []string{"builds"}, Summary: "Build a commit that is brought along",
		Description: "The body is a git bundle with the commit. It is answered once the bundle lies on two nodes, where there are two. The leader answers; other nodes pass it on.",
		Parameters: []*huma.Param{
			param("repo", "The repository's name", true), param("sha", "The commit's", true),
			param("ref", "Such as refs/heads/main, the default", false), param("message", "", false), param("author", "", false),
			{Name: "input", In: "query", Description: "An input of its narwhal.yml, as name=value; may be given more than once", Schema: &huma.Schema{Type: "array", Items: &huma.Schema{Type: "string"}}},
			{Name: "Idempotency-Key", In: "header", Description: "The same key makes one build, however often it is sent", Schema: &huma.Schema{Type: "string"}},
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		}},
		Responses: map[string]*huma.Response{"201": {Description: "Accepted", Content: map[string]*huma.MediaType{
			"application/json": {Schema: s.openAPI.Components.Schemas.Schema(reflect.TypeFor[Pushed](), true, "Pushed")},
		}}},
	}, atLeader, s.push)
}

func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	pushed, index, err := s.accept(w, r)
	if err != nil {
		s.writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(HeaderIndex, strconv.FormatUint(index, 10))
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(pushed) // the client has gone: its key finds the build
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) (*Pushed, uint64, error) {
	q := r.URL.Query()
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxIdemKey {
		return nil, 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "Idempotency-Key: want at most %d bytes", maxIdemKey)
	}
	commit := fsm.Commit{
		Repo: q.Get("repo"), SHA: q.Get("sha"), Ref: q.Get("ref"), Event: fsm.EventManual, Message: q.Get("message"), Author: q.Get("author"),
		Bundle: strings.Repeat("0", 64), Holders: []fsm.NodeID{s.deps.Cluster.Self()}, // stand-ins: what else is wrong is said before it is all sent
	}
	if commit.Ref == "" {
		commit.Ref = "refs/heads/main"
	}
	if err := s.config.Check(commit); err != nil {
		return nil, 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	}
	inputs, err := readInputs(q["input"])
	if err != nil {
		return nil, 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	}
	digest, size, err := s.store(w, r)
	if err != nil {
		return nil, 0, err
	}
	holders, err := s.copyBundle(r.Context(), digest)
	if err != nil {
		return nil, 0, err
	}
	commit.Bundle, commit.Holders = digest, holders
	built, err := s.addBuild(r.Context(), fsm.AddBuild{Key: Idempotency{key}.key(), Commit: commit, Inputs: inputs})
	if err != nil {
		return nil, 0, err
	}
	return &Pushed{Build: built.Body, Bundle: digest, Size: size, Copies: len(holders), Nodes: holders}, built.Index, nil
}

// readInputs reads name=value pairs.
func readInputs(pairs []string) (map[string]string, error) {
	inputs := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := inputs[name]; !ok || twice {
			return nil, fmt.Errorf("input %.60q: want name=value, each name once", pair)
		}
		inputs[name] = value
	}
	return inputs, checkInputs(inputs)
}

// store keeps the body here.
func (s *Server) store(w http.ResponseWriter, r *http.Request) (digest string, size int64, err error) {
	body := bufio.NewReader(http.MaxBytesReader(w, r.Body, s.config.BundleLimit))
	const magic = "# v2 git bundle\n" // or v3, of the same length
	head, err := body.Peek(len(magic))
	if text := string(head); err == nil && text != magic && text != strings.Replace(magic, "2", "3", 1) || errors.Is(err, io.EOF) {
		return "", 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "the body is not a git bundle: make one with `git bundle create`")
	}
	if err == nil {
		digest, size, err = s.deps.Bundles.Put(r.Context(), body, s.config.BundleLimit)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return "", 0, problem(http.StatusRequestEntityTooLarge, CodeTooLarge,
			"the bundle is larger than %d MiB, the most that can be pushed: have the cluster fetch the commit from a git server instead", s.config.BundleLimit>>20)
	case err != nil && r.Context().Err() != nil:
		return "", 0, r.Context().Err()
	case err != nil:
		return "", 0, fmt.Errorf("store bundle: %w", err)
	}
	return digest, size, nil
}

// copyBundle brings the bundle to a second node, so that the build survives this
// one's death. It answers with the nodes that hold it.
func (s *Server) copyBundle(ctx context.Context, digest string) ([]fsm.NodeID, error) {
	self := s.deps.Cluster.Self()
	others := s.others(digest)
	var last error
	for _, node := range others {
		if last = s.sendBundleTo(ctx, node, digest); last == nil {
			return []fsm.NodeID{self, node}, nil
		}
		s.log.Warn("copy bundle to another node", "node", node, "err", last)
	}
	if len(others) > 0 {
		return nil, problem(http.StatusServiceUnavailable, CodeNoCopy,
			"what was pushed could not be copied to a second node, so it is not accepted: try again, and see `narwhal nodes`")
	}
	return []fsm.NodeID{self}, nil
}

// others are the other live nodes, in an order of the digest's own, so that copies
// are spread.
func (s *Server) others(digest string) []fsm.NodeID {
	var ids []fsm.NodeID
	for _, m := range s.deps.Cluster.Members() {
		if m.Alive && m.ID != s.deps.Cluster.Self() {
			ids = append(ids, m.ID)
		}
	}
	return fsm.Rank(digest, ids)
}

func (s *Server) sendBundleTo(ctx context.Context, node fsm.NodeID, digest string) error {
	f, size, err := s.deps.Bundles.Open(digest)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+string(node)+NodePath(digest), f)
	if err != nil {
		return err
	}
	req.ContentLength = size
	resp, err := s.deps.Transport.Node(node).RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return nil
}
