package bucket

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

// s3 is so much of S3's protocol as the driver speaks, on loopback, for one bucket.
type s3 struct {
	t      *testing.T
	bucket string
	mu     sync.Mutex
	have   map[string]s3Object
	parts  map[string]map[int][]byte // of uploads in several parts
	refuse bool                      // answer 503 to everything
	hang   chan struct{}             // answers wait for it; nil for no wait
	lied   []byte                    // is answered in the place of every object
	asked  map[string]int            // by method
}

type s3Object struct {
	data []byte
	at   time.Time
}

const (
	s3Key    = "AKIDEXAMPLE"
	s3Secret = "verysecretkey"
)

// newS3 serves a bucket and gives its URL; credentials go by the environment.
func newS3(t *testing.T, bucket string) (*s3, string) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", s3Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	s := &s3{t: t, bucket: bucket, have: map[string]s3Object{}, parts: map[string]map[int][]byte{}, asked: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, "s3://" + bucket + "?region=eu-test-1&use_path_style=true&endpoint=" + server.URL
}

func (s *s3) set(change func(*s3)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	data, err := s3Body(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[r.Method]++
	auth := r.Header.Get("Authorization")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case err != nil:
		s3Fail(w, http.StatusBadRequest, "IncompleteBody")
	case !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential="+s3Key+"/") || !strings.Contains(auth, "/eu-test-1/s3/"):
		s3Fail(w, http.StatusForbidden, "AccessDenied")
	case s.refuse:
		s3Fail(w, http.StatusServiceUnavailable, "ServiceUnavailable")
	case bucket != s.bucket:
		s3Fail(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		s.list(w, r)
	case r.URL.Query().Has("uploads") || r.URL.Query().Has("uploadId"):
		s.multipart(w, r, key, data)
	default:
		s.object(w, r, key, data)
	}
}

func (s *s3) object(w http.ResponseWriter, r *http.Request, key string, data []byte) {
	o, ok := s.have[key]
	switch r.Method {
	case http.MethodPut:
		if ok && r.Header.Get("If-None-Match") == "*" {
			s3Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		s.have[key] = s3Object{data, time.Now()}
		w.Header().Set("ETag", `"x"`)
	case http.MethodDelete:
		delete(s.have, key)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		if !ok {
			s3Fail(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		if s.lied != nil {
			o.data = s.lied
		}
		w.Header().Set("Last-Modified", o.at.UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		w.Header().Set("ETag", `"x"`)
		if r.Method == http.MethodGet {
			_, _ = w.Write(o.data)
		}
	default:
		s3Fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func (s *s3) multipart(w http.ResponseWriter, r *http.Request, key string, data []byte) {
	id := r.URL.Query().Get("uploadId")
	switch {
	case r.URL.Query().Has("uploads"):
		id = strconv.Itoa(len(s.parts) + 1)
		s.parts[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case r.Method == http.MethodPut:
		n, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
		if err != nil || s.parts[id] == nil {
			s3Fail(w, http.StatusNotFound, "NoSuchUpload")
			return
		}
		s.parts[id][n] = data
		w.Header().Set("ETag", `"x"`)
	case r.Method == http.MethodPost:
		var whole []byte
		for _, n := range slices.Sorted(maps.Keys(s.parts[id])) {
			whole = append(whole, s.parts[id][n]...)
		}
		s.have[key] = s3Object{whole, time.Now()}
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
	}
}

func (s *s3) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(q.Get("max-keys"), "1000"))
	if err != nil {
		s3Fail(w, http.StatusBadRequest, "InvalidArgument")
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
	for _, key := range slices.Sorted(maps.Keys(s.have)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		if len(out.Contents) == limit {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[limit-1].Key
			break
		}
		o := s.have[key]
		out.Contents = append(out.Contents, content{key, o.at.UTC().Format(time.RFC3339), len(o.data), `"x"`})
	}
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		s.t.Error(err)
	}
}

func s3Fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// s3Body takes the chunks apart in which the SDK sends what it has a checksum of.
func s3Body(r *http.Request) ([]byte, error) {
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
