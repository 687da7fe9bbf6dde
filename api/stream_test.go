package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// sse is a stream of server-sent events that a test reads.
type sse struct {
	t    *testing.T
	scan *bufio.Scanner
	resp *http.Response
	stop context.CancelFunc
}

type sseEvent struct{ name, id, data string }

// stream opens one; it is cut when the test ends, or after 20 seconds.
func (n *node) stream(path string, headers ...string) *sse {
	n.w.t.Helper()
	ctx, cancel := context.WithTimeout(n.w.t.Context(), 20*time.Second)
	n.w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.public.URL+path, nil)
	if err != nil {
		n.w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.auth.Token())
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := plainClient.Do(req)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.w.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		n.w.t.Fatalf("GET %s: %s %s: %s", path, resp.Status, resp.Header.Get("Content-Type"), text)
	}
	return &sse{t: n.w.t, scan: bufio.NewScanner(resp.Body), resp: resp, stop: cancel}
}

// next waits for an event; its name is empty where the stream has ended.
func (s *sse) next() (e sseEvent) {
	s.t.Helper()
	for s.scan.Scan() {
		key, value, _ := strings.Cut(s.scan.Text(), ": ")
		switch key {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		}
		if s.scan.Text() == "" && e.name != "" {
			return e
		}
	}
	if err := s.scan.Err(); err != nil {
		s.t.Fatalf("wait for an event: %v", err)
	}
	return sseEvent{}
}

// tale is a stream's events in short.
func (s *sse) tale() (out []string) {
	s.t.Helper()
	for e := s.next(); e.name != ""; e = s.next() {
		out = append(out, e.short(s.t))
	}
	return out
}

func (e sseEvent) short(t *testing.T) string {
	t.Helper()
	var v struct {
		Text    string     `json:"text"`
		Status  fsm.Status `json:"status"`
		Attempt int        `json:"attempt"`
		Code    string     `json:"code"`
	}
	if e.name == "problem" {
		var p api.Problem
		if err := json.Unmarshal([]byte(e.data), &p); err != nil {
			t.Fatal(err)
		}
		return "problem " + p.Code
	}
	if err := json.Unmarshal([]byte(e.data), &v); err != nil {
		t.Fatalf("%v: %s", err, e.data)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %d %s%s", e.name, v.Attempt, v.Text, v.Status))
}

func (s *sse) wantNext(want string) {
	s.t.Helper()
	if got := s.next().short(s.t); got != want {
		s.t.Fatalf("event %q, want %q", got, want)
	}
}

// TestFollowLog follows a job from before it is placed to its end, at the node
// that runs it and at others.
func TestFollowLog(t *testing.T) {
	for _, at := range []fsm.NodeID{"a", "b", "c"} {
		t.Run("at "+string(at), func(t *testing.T) {
			w := newWorld(t, nil, "a", "b", "c")
			w.nodes["c"].hasLog = false
			id := job(w.build("test"), 1)
			runner := w.nodes["b"]
			s := w.nodes[at].stream("/api/v1/jobs/1.1/logs/stream")
			s.wantNext("status 0 queued")
			w.assign(id, "b")
			s.wantNext("status 1 assigned")
			runner.logs.write(t, id, 1, "one", "two <&>\\n")
			w.start(id)
			s.wantNext("status 1 running")
			s.wantNext("line 1 one")
			s.wantNext("line 1 two <&>\\n")
			runner.logs.write(t, id, 1, "three")
			s.wantNext("line 1 three")
			runner.logs.write(t, id, 1, "the last")
			w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 99})
			if got := s.tale(); !slices.Equal(got, []string{"line 1 the last", "status 1 passed", "end 1 passed"}) &&
				!slices.Equal(got, []string{"status 1 passed", "line 1 the last", "end 1 passed"}) {
				t.Errorf("ends with %q", got)
			}
		})
	}
}

// TestFollowLogOverAttempts has a node die under a job: the stream goes on with the
// next attempt, and says that the first one's log can't be had.
func TestFollowLogOverAttempts(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := job(w.build("test"), 1)
	w.assign(id, "b")
	w.start(id)
	w.nodes["b"].logs.write(t, id, 1, "one")
	s := w.nodes["a"].stream("/api/v1/jobs/1.1/logs/stream")
	s.wantNext("status 1 running")
	s.wantNext("line 1 one")
	pinned := w.nodes["a"].stream("/api/v1/jobs/1.1/logs/stream?attempt=1")
	w.nodes["b"].cut()
	s.wantNext("problem " + api.CodeNodeUnreachable)
	w.must(fsm.Command{LoseAttempt: &fsm.LoseAttempt{Ref: w.ref(id), Message: "gone"}})
	var got []string
	for got = append(got, s.next().short(t)); !strings.HasPrefix(got[len(got)-1], "status 0"); got = append(got, s.next().short(t)) {
	}
	if want := []string{"status 1 errored", "problem " + api.CodeNodeUnreachable, "status 0 queued"}; !slices.Equal(got, want) {
		t.Errorf("after the loss %q, want %q", got, want)
	}
	if got := pinned.tale(); got[len(got)-1] != "end 1 errored" {
		t.Errorf("the stream of attempt 1 ends with %q", got)
	}
	w.assign(id, "a")
	w.start(id)
	w.nodes["a"].logs.write(t, id, 2, "again")
	w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 9})
	if got := s.tale(); got[len(got)-1] != "end 2 passed" || !slices.Contains(got, "line 2 again") {
		t.Errorf("it goes on with %q", got)
	}
}

// TestFollowLogBeforeThePlan follows a job that is not known yet.
func TestFollowLogBeforeThePlan(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build()
	streams := make(chan *sse)
	go func() { streams <- w.nodes["b"].stream("/api/v1/jobs/1.1/logs/stream") }()
	select {
	case <-streams:
		t.Fatal("answered before the build is planned")
	case <-time.After(100 * time.Millisecond):
	}
	w.plan(1, "test")
	s := <-streams
	s.wantNext("status 0 queued")
	w.nodes["a"].call("GET", "/api/v1/jobs/1.2/logs/stream", "").wantProblem(404, api.CodeNotFound)
}

// TestFollowLogResumes reads what a stream's IDs and offsets promise.
func TestFollowLogResumes(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := job(w.build("test"), 1)
	w.assign(id, "b")
	w.start(id)
	w.nodes["b"].logs.write(t, id, 1, "one", "two", "three")
	w.finish(id, fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, LogBytes: 9})
	n := w.nodes["a"]
	s := n.stream("/api/v1/jobs/1.1/logs/stream")
	var first sseEvent
	for first.name != "line" {
		first = s.next()
	}
	_, offset, _ := strings.Cut(first.id, "/")
	want := []string{"line 1 two", "line 1 three"}
	lines := func(s *sse) (out []string) {
		for _, text := range s.tale() {
			if strings.HasPrefix(text, "line") {
				out = append(out, text)
			}
		}
		return out
	}
	for name, s := range map[string]*sse{
		"by its ID":        n.stream("/api/v1/jobs/1.1/logs/stream", "Last-Event-ID", first.id),
		"by its offset":    n.stream("/api/v1/jobs/1.1/logs/stream", "Last-Event-ID", offset),
		"in the query":     n.stream("/api/v1/jobs/1.1/logs/stream?attempt=1&offset=" + offset),
		"ID before offset": n.stream("/api/v1/jobs/1.1/logs/stream?offset=0", "Last-Event-ID", first.id),
	} {
		if got := lines(s); !slices.Equal(got, want) {
			t.Errorf("resumed %s: %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"x", "1/x", "0/5", "1/-1", "-1"} {
		n.call("GET", "/api/v1/jobs/1.1/logs/stream", "", "Last-Event-ID", bad).wantProblem(422, api.CodeInvalid)
	}
	n.call("GET", "/api/v1/jobs/1.7/logs/stream", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/1.1/logs/stream?attempt=2", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/1.1/logs/stream?attempt=0", "").wantProblem(422, api.CodeInvalid)
}

func TestFollowBuild(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build("test")
	s := w.nodes["b"].stream("/api/v1/builds/1/events")
	s.wantNext("build 0 running")
	w.assign(job(1, 1), "b")
	e := s.next()
	var b api.Build
	if err := json.Unmarshal([]byte(e.data), &b); err != nil || e.name != "build" || b.Jobs[1].Status != fsm.Assigned || e.id != fmt.Sprint(w.index) {
		t.Errorf("event %+v: %v", e, err)
	}
	w.build() // another build's news are none of this one's
	w.start(job(1, 1))
	s.wantNext("build 0 running")
	w.finish(job(1, 1), fsm.Outcome{Status: fsm.Passed})
	if got := s.tale(); !slices.Equal(got, []string{"end 0 passed"}) {
		t.Errorf("ends with %q", got)
	}
	w.nodes["b"].stream("/api/v1/builds/1/events").wantNext("end 0 passed")
}

// TestQuietStreams sends a sign of life where nothing happens, so that a proxy in
// front keeps the connection.
func TestQuietStreams(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.StreamPing = 10 * time.Millisecond }, "a")
	w.build()
	s := w.nodes["a"].stream("/api/v1/builds/1/events")
	pings := 0
	for s.scan.Scan() && pings < 3 {
		if strings.HasPrefix(s.scan.Text(), ": ") {
			pings++
		}
	}
	if pings < 3 {
		t.Errorf("%d signs of life: %v", pings, s.scan.Err())
	}
}
