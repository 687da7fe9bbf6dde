package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/fsm"
)

// ArtifactList is what a job left.
type ArtifactList struct {
	Job       fsm.JobID     `json:"job"`
	Name      string        `json:"name"`
	Attempt   int           `json:"attempt"`
	Artifacts fsm.Artifacts `json:"artifacts"`
	Files     []Artifact    `json:"files" doc:"In the archive's order, folders left out; 10,000 at most"`
	More      bool          `json:"more,omitempty" doc:"There are more files than these; the archive has them all"`
}

// Artifact is a file that a job left.
type Artifact struct {
	Path string `json:"path"`
	Size int64  `json:"size" doc:"Bytes"`
	Mode string `json:"mode" example:"-rw-r--r--"`
}

func (s *Server) artifactRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-artifacts", Method: http.MethodGet, Path: prefix + "/jobs/{id}/artifacts", Tags: []string{"artifacts"},
		Summary: "List the files that a job left", Middlewares: s.placed(withState),
	}, s.listArtifacts)
	s.download("artifact-archive", "/jobs/{id}/artifacts/archive", "Download all that a job left, as tar under zstd", s.sendArchive)
	s.download("artifact-file", "/jobs/{id}/artifacts/file", "Download one file that a job left", s.sendArtifact,
		&huma.Param{Name: "path", In: "query", Required: true, Schema: &huma.Schema{Type: "string"}, Description: "As the list has it"})
}

// download documents a route that answers with bytes.
func (s *Server) download(id, path, summary string, handle http.HandlerFunc, more ...*huma.Param) {
	params := []*huma.Param{
		{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}, Example: "42.1"},
		{Name: "attempt", In: "query", Schema: &huma.Schema{Type: "integer"}, Description: "By default the newest one that left something"},
	}
	s.document(&huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: prefix + path, Tags: []string{"artifacts"}, Summary: summary, Parameters: append(params, more...),
		Responses: map[string]*huma.Response{"200": {Description: "The bytes", Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		}}},
	}, withState, handle)
}

// artifactsOf finds what an attempt of a job left; n of 0 is the newest that left
// something.
func artifactsOf(s *fsm.State, id string, n int) (*ArtifactList, error) {
	j, err := findJob(s, id)
	if err != nil {
		return nil, err
	}
	var found *ArtifactList
	for i := range j.Attempts {
		if a := &j.Attempts[i]; a.Artifacts != nil && (n == 0 || n == a.N) {
			found = &ArtifactList{Job: j.ID, Name: j.Name, Attempt: a.N, Artifacts: *a.Artifacts}
		}
	}
	if found == nil {
		return nil, problem(http.StatusNotFound, CodeNotFound, "job %s, %s, left no artifacts: its narwhal.yml names them", j.ID, j.Name)
	}
	if expire := found.Artifacts.ExpireAt; !expire.IsZero() && expire.Before(s.Now()) {
		return nil, problem(http.StatusGone, CodeGone, "the artifacts of job %s expired at %s", j.ID, expire.Format("2006-01-02 15:04:05 MST"))
	}
	return found, nil
}

func (s *Server) listArtifacts(ctx context.Context, in *jobArtifacts) (*struct{ Body ArtifactList }, error) {
	list, err := artifactsOf(stateOf(ctx), in.ID, in.Attempt)
	if err != nil {
		return nil, err
	}
	f, err := s.fetchArchive(ctx, list)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	list.Files = []Artifact{}
	err = archive.Each(ctx, f, archiveLimits, func(e archive.Entry, _ io.Reader) error {
		if e.Mode.IsDir() {
			return nil
		}
		if len(list.Files) == maxListed {
			return errListed
		}
		list.Files = append(list.Files, Artifact{Path: e.Path, Size: e.Size, Mode: e.Mode.String()})
		return nil
	})
	if list.More = errors.Is(err, errListed); err != nil && !list.More {
		return nil, s.asProblem(fmt.Errorf("list artifacts of job %s: %w", list.Job, err))
	}
	return &struct{ Body ArtifactList }{*list}, nil
}

// maxListed is how many files a list has at most.
const maxListed = 10_000

var errListed = errors.New("there are more")

// archiveLimits bound what is read of an archive, which a job has made.
var archiveLimits = archive.Limits{}

func (s *Server) fetchArchive(ctx context.Context, list *ArtifactList) (io.ReadCloser, error) {
	f, err := s.deps.Blobs.Fetch(ctx, list.Artifacts.Archive)
	if errors.Is(err, ErrNoBlob) && !errors.Is(err, ErrBucket) {
		return nil, problem(http.StatusServiceUnavailable, CodeNodeUnreachable,
			"no node that can be reached has the artifacts of job %s: they can be read when one of %v is back (%s)", list.Job, list.Artifacts.Archive.Holders, err)
	}
	if err != nil {
		return nil, s.asProblem(err)
	}
	return f, nil
}

// wanted reads what a download asks for, and finds its archive. Otherwise it has
// answered.
func (s *Server) wanted(w http.ResponseWriter, r *http.Request) (list *ArtifactList, f io.ReadCloser, ok bool) {
	n := 0
	var err error
	if text := r.URL.Query().Get("attempt"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			problem(http.StatusUnprocessableEntity, CodeInvalid, "attempt: want a number from 1").write(w)
			return nil, nil, false
		}
	}
	if list, err = artifactsOf(stateOf(r.Context()), r.PathValue("id"), n); err == nil {
		f, err = s.fetchArchive(r.Context(), list)
	}
	if err != nil {
		s.writeError(w, err)
		return nil, nil, false
	}
	return list, f, true
}

func (s *Server) sendArchive(w http.ResponseWriter, r *http.Request) {
	list, f, ok := s.wanted(w, r)
	if !ok {
		return
	}
	defer func() { _ = f.Close() }()
	asFile(w, fmt.Sprintf("%s-%d.tar.zst", list.Job, list.Attempt), list.Artifacts.Archive.Size)
	if _, err := io.Copy(w, f); err != nil {
		s.log.Debug("send artifacts", "job", list.Job, "err", err)
	}
}

func (s *Server) sendArtifact(w http.ResponseWriter, r *http.Request) {
	list, f, ok := s.wanted(w, r)
	if !ok {
		return
	}
	defer func() { _ = f.Close() }()
	name := r.URL.Query().Get("path")
	file, entry, err := archive.Open(r.Context(), f, name, archiveLimits)
	if errors.Is(err, archive.ErrNotFound) {
		problem(http.StatusNotFound, CodeNotFound, "job %s left no file %q: see its list", list.Job, name).write(w)
		return
	}
	if err != nil {
		s.writeError(w, fmt.Errorf("read artifact of job %s: %w", list.Job, err))
		return
	}
	defer func() { _ = file.Close() }()
	asFile(w, path.Base(entry.Path), entry.Size)
	if _, err := io.Copy(w, file); err != nil {
		s.log.Debug("send artifact", "job", list.Job, "err", err)
		panic(http.ErrAbortHandler) // what merely ends would pass for whole
	}
}

// attachment is the header's value for a file name (RFC 6266).
func attachment(name string) string {
	return mime.FormatMediaType("attachment", map[string]string{"filename": name})
}

// asFile keeps a browser from showing what a job wrote as a page of ours.
func asFile(w http.ResponseWriter, name string, size int64) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", attachment(name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
}

// jobArtifacts says whose artifacts.
type jobArtifacts struct {
	ReadInput
	ID      string `path:"id" pattern:"^[0-9]+\\.[0-9]+$" example:"42.1"`
	Attempt int    `query:"attempt" minimum:"0" doc:"By default the newest one that left something"`
}
