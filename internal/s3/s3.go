// Package s3 is so much of S3's protocol as gocloud.dev's driver speaks, on loopback, for
// tests: objects of one bucket, in one request or several parts, and lists of them in
// pages. Requests must be signed with its key.
package s3

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a bucket. What it has and how it behaves is set by Set.
type Server struct {
	URL string // as --blob-bucket takes it

	t      *testing.T
	bucket string
	mu     sync.Mutex
	parts  map[string]map[int][]byte // of uploads in several parts
	State
}

// State is what a server has, and how it behaves.
type State struct {
	Have   map[string]Object
	Refuse bool          // answer 503 to everything
	Hang   chan struct{} // answers wait for it; nil for no wait
	Lie    []byte        // is answered in the place of every object
}

// Object is one of them.
type Object struct {
	Data []byte
	At   time.Time
}

// The credentials.
const (
	Key    = "AKIDEXAMPLE"
	Secret = "verysecretkey"
)

// Environment has the credentials as the provider's tools take them.
func Environment() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + Key, "AWS_SECRET_ACCESS_KEY=" + Secret, "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1"}
}

// New serves a bucket of that name until the test ends.
func New(t *testing.T, bucket string) *Server {
	t.Helper()
	s := &Server{t: t, bucket: bucket, parts: map[string]map[int][]byte{}, State: State{Have: map[string]Object{}}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = "s3://" + bucket + "?region=eu-test-1&use_path_style=true&endpoint=" + server.URL
	return s
}

// Set changes the server.
func (s *Server) Set(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.State)
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hang := s.Hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	data, err := body(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	auth := r.Header.Get("Authorization")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case err != nil:
		fail(w, http.StatusBadRequest, "IncompleteBody")
	case !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential="+Key+"/") || !strings.Contains(auth, "/eu-test-1/s3/"):
		fail(w, http.StatusForbidden, "AccessDenied")
	case s.Refuse:
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailable")
	case bucket != s.bucket:
		fail(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		s.list(w, r)
	case r.URL.Query().Has("uploads") || r.URL.Query().Has("uploadId"):
		s.multipart(w, r, key, data)
	default:
		s.object(w, r, key, data)
	}
}

func (s *Server) object(w http.ResponseWriter, r *http.Request, key string, data []byte) {
	o, ok := s.Have[key]
	switch r.Method {
	case http.MethodPut:
		if ok && r.Header.Get("If-None-Match") == "*" {
			fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		s.Have[key] = Object{data, time.Now()}
		w.Header().Set("ETag", `"x"`)
	case http.MethodDelete:
		delete(s.Have, key)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		if !ok {
			fail(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		if s.Lie != nil {
			o.Data = s.Lie
		}
		w.Header().Set("Last-Modified", o.At.UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(o.Data)))
		w.Header().Set("ETag", `"x"`)
		if r.Method == http.MethodGet {
			_, _ = w.Write(o.Data)
		}
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func (s *Server) multipart(w http.ResponseWriter, r *http.Request, key string, data []byte) {
	id := r.URL.Query().Get("uploadId")
	switch {
	case r.URL.Query().Has("uploads"):
		id = strconv.Itoa(len(s.parts) + 1)
		s.parts[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case r.Method == http.MethodPut:
		n, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
		if err != nil || s.parts[id] == nil {
			fail(w, http.StatusNotFound, "NoSuchUpload")
			return
		}
		s.parts[id][n] = data
		w.Header().Set("ETag", `"x"`)
	case r.Method == http.MethodPost:
		var whole []byte
		for _, n := range slices.Sorted(maps.Keys(s.parts[id])) {
			whole = append(whole, s.parts[id][n]...)
		}
		s.Have[key] = Object{whole, time.Now()}
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(q.Get("max-keys"), "1000"))
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidArgument")
		return
	}
	limit = min(limit, 3) // so that there are pages
	type content struct {
		Key          string
		LastModified string
		Size         int
		ETag         string
	}
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}{}
	for _, key := range slices.Sorted(maps.Keys(s.Have)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		if len(out.Contents) == limit {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[limit-1].Key
			break
		}
		o := s.Have[key]
		out.Contents = append(out.Contents, content{key, o.At.UTC().Format(time.RFC3339), len(o.Data), `"x"`})
	}
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		s.t.Error(err)
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// body takes the chunks apart in which the SDK sends what it has a checksum of.
func body(r *http.Request) ([]byte, error) {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		return io.ReadAll(r.Body)
	}
	var out []byte
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			_, err := io.Copy(io.Discard, in) // trailers
			return out, err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		if string(chunk[n:]) != "\r\n" {
			return nil, errors.New("a chunk without an end")
		}
		out = append(out, chunk[:n]...)
	}
}
