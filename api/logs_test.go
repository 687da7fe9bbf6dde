package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

func TestReadLog(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "c")
	id := job(w.build("test"), 1)
	const path = "/api/v1/jobs/1.1/logs"
	for _, n := range w.nodes { // nothing yet is an empty log, and no error
		if a := n.call("GET", path, "").want(200); a.body != "" || a.header.Get(api.HeaderNextOffset) != "0" {
			t.Errorf("before it is placed: %q %v", a.body, a.header)
		}
	}
	w.assign(id, "b")
	w.start(id)
	for _, n := range w.nodes {
		if a := n.call("GET", path, "").want(200); a.body != "" {
			t.Errorf("before its file is there: %q", a.body)
		}
	}
	w.nodes["b"].logs.write(t, id, 1, "one", "ünïcode \x1b[31mred", "three")
	for _, n := range w.nodes { // the one that runs it, and the others
		a := n.call("GET", path, "").want(200)
		if a.body != "one\nünïcode \x1b[31mred\nthree\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("at %s: %s %q", n.id, a.header.Get("Content-Type"), a.body)
		}
		next := a.header.Get(api.HeaderNextOffset)
		if again := n.call("GET", path+"?offset="+next, "").want(200); again.body != "" || again.header.Get(api.HeaderNextOffset) != next {
			t.Errorf("at %s, from the end: %q", n.id, again.body)
		}
		var lines []joblog.Line
		for text := range strings.Lines(n.call("GET", path+"?format=ndjson", "").want(200).body) {
			var l joblog.Line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		if len(lines) != 3 || lines[2].Text != "three" || fmt.Sprint(lines[2].Offset) != next {
			t.Fatalf("at %s: %+v", n.id, lines)
		}
		for i, want := range []string{"ünïcode \x1b[31mred\nthree\n", "three\n"} {
			if got := n.call("GET", fmt.Sprintf("%s?offset=%d", path, lines[i].Offset), "").want(200).body; got != want {
				t.Errorf("at %s from %d: %q", n.id, lines[i].Offset, got)
			}
		}
	}
	n := w.nodes["a"]
	for _, bad := range []string{"offset=-1", "offset=x", "attempt=0", "attempt=x", "format=html"} {
		n.call("GET", path+"?"+bad, "").wantProblem(422, api.CodeInvalid)
	}
	n.call("GET", path+"?attempt=2", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/1.7/logs", "").wantProblem(404, api.CodeNotFound)
}

func TestLogThatCannotBeHad(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build("test", "lint")
	n := w.nodes["a"]
	w.assign(job(1, 1), "b")
	w.start(job(1, 1))
	w.finish(job(1, 1), fsm.Outcome{Status: fsm.Passed, LogBytes: 10})
	if a := n.call("GET", "/api/v1/jobs/1.1/logs", "").wantProblem(404, api.CodeNotFound); !strings.Contains(a.body, "host-b") {
		t.Errorf("it does not name the node: %s", a.body)
	}
	w.assign(job(1, 2), "b")
	w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 1, By: "t"}})
	w.finish(job(1, 2), fsm.Outcome{Status: fsm.Canceled, Cause: fsm.CauseCanceled})
	if a := n.call("GET", "/api/v1/jobs/1.2/logs", "").want(200); a.body != "" {
		t.Errorf("one that never wrote: %q", a.body)
	}
	w.nodes["b"].down = true
	if a := n.call("GET", "/api/v1/jobs/1.1/logs", "").wantProblem(503, api.CodeNodeUnreachable); !strings.Contains(a.body, "host-b") {
		t.Errorf("it does not name the node: %s", a.body)
	}
}

// TestLongLog is longer than a head can wait for: its end is in a trailer.
func TestLongLog(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := job(w.build("test"), 1)
	w.assign(id, "b")
	w.start(id)
	var text []string
	for i := range 3000 {
		text = append(text, strconv.Itoa(i)+strings.Repeat(" and so on", 50))
	}
	w.nodes["b"].logs.write(t, id, 1, text...)
	want := strings.Join(text, "\n") + "\n"
	for _, n := range w.nodes {
		a := n.call("GET", "/api/v1/jobs/1.1/logs", "").want(200)
		if a.body != want {
			t.Errorf("at %s: %d bytes, want %d", n.id, len(a.body), len(want))
		}
		next := a.trailer.Get(api.HeaderNextOffset)
		if next == "" || a.header.Get(api.HeaderNextOffset) != "" {
			t.Errorf("at %s: trailer %v, header %v", n.id, a.trailer, a.header)
		}
		if again := n.call("GET", "/api/v1/jobs/1.1/logs?offset="+next, ""); again.body != "" {
			t.Errorf("at %s, from its end: %q", n.id, again.body)
		}
	}
}

// TestLogCutShort has the node with the log break off in the middle of a line: that
// must not pass for the whole log, nor for a mistake of narwhal's.
func TestLogCutShort(t *testing.T) {
	for name, size := range map[string]int{"before the answer's head": 10, "after it": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, "a", "b")
			id := job(w.build("test"), 1)
			w.assign(id, "b")
			w.start(id)
			line := `{"time":"2026-11-24T09:00:00Z","step":0,"text":"` + strings.Repeat("x", 1000) + `","offset":9}` + "\n"
			w.nodes["b"].replace(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for range size/len(line) + 1 {
					_, _ = w.Write([]byte(line))
				}
				_, _ = w.Write([]byte(line[:len(line)/2]))
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
			req, err := http.NewRequestWithContext(t.Context(), "GET", w.nodes["a"].public.URL+"/api/v1/jobs/1.1/logs", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+w.nodes["a"].auth.Token())
			resp, err := plainClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			var p api.Problem
			if size < 1000 {
				if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 503 || p.Code != api.CodeNodeUnreachable {
					t.Errorf("answered %s %+v, %v", resp.Status, p, err)
				}
			} else if n, err := resp.Body.Read(make([]byte, 16)); err != nil || n == 0 {
				t.Errorf("answered %s with nothing: %v", resp.Status, err)
			} else if err := drain(resp); err == nil {
				t.Error("it ended as if it were whole")
			}
		})
	}
}
