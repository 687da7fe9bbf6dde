package api_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// steps has a build with a job of these steps, which runs, and has printed the lines:
// each begins with its step and a space.
func (w *world) steps(names []string, lines ...string) fsm.JobID {
	w.t.Helper()
	id := w.build()
	spec := pipeline.Job{Name: "test", Image: "alpine", Resources: pipeline.Resources{CPU: 100}}
	for _, name := range names {
		spec.Steps = append(spec.Steps, pipeline.Step{Name: name})
	}
	w.assign(job(id, 0), "a")
	w.finish(job(id, 0), fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{spec}}})
	w.assign(job(id, 1), "a")
	w.start(job(id, 1))
	var records strings.Builder
	for _, line := range lines {
		step, text, _ := strings.Cut(line, " ")
		records.WriteString("2026-11-24T09:00:00.000Z\t" + step + "\t" + text + "\n")
	}
	if err := os.WriteFile(w.nodes["a"].logs.path(job(id, 1), 1), []byte(records.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return job(id, 1)
}

var (
	logGroups = regexp.MustCompile(`(?s)<details( open)? data-step="(-?\d+)"(?: id="(step-\d+)")?><summary><b>([^<]*)</b>(.*?)</summary>(.*?)</details>`)
	statuses  = regexp.MustCompile(`class="state (\w+)"`)
	logLines  = regexp.MustCompile(`<p id="L(\d+)"(?: class="own")?><a href="#L(\d+)">(\d+)</a>(.*)</p>`)
)

// outlineLog is a log's page in short: a line for each group, and for each of its lines.
func outlineLog(t *testing.T, body string) (out []string) {
	t.Helper()
	for _, g := range logGroups.FindAllStringSubmatch(body, -1) {
		status := ""
		if m := statuses.FindStringSubmatch(g[5]); m != nil {
			status = m[1]
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", g[4], status, g[1], g[3])))
		for _, l := range logLines.FindAllStringSubmatch(g[6], -1) {
			if l[1] != l[2] || l[1] != l[3] {
				t.Errorf("a line's numbers differ: %s", l[0])
			}
			out = append(out, l[1]+": "+l[4])
		}
	}
	return out
}

// TestLogPageGroups shows a log while it runs, and after it has ended.
func TestLogPageGroups(t *testing.T) {
	w := newWorld(t, nil, "a")
	id := w.steps([]string{"build", "<b>test</b>", "clean", "publish"},
		"-1 fetched", "0 compiling", "0 \x1b[32mdone\x1b[0m", "1 \x1b[31m--- FAIL: <TestX>", "1 still red\x1b[0m", "2 cleaned", "1 late")
	page := w.nodes["a"].call("GET", "/jobs/1.1/log", "").want(200)
	wantPolicy(t, "a log that is written", page)
	want := []string{
		"Preparing  open", "1: fetched", "build ended open step-0", "2: compiling", `3: <span class="term-fg32">done</span>`,
		"&lt;b&gt;test&lt;/b&gt; ended open step-1", `4: <span class="term-fg31">--- FAIL: &lt;TestX&gt;</span>`, `5: <span class="term-fg31">still red</span>`,
		"clean running open step-2", "6: cleaned", "&lt;b&gt;test&lt;/b&gt; ended open", "7: late",
	}
	if got := outlineLog(t, page.body); !slices.Equal(got, want) {
		t.Errorf("while it runs the page has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(page.body, `data-stream="/api/v1/jobs/1.1/logs/stream?format=html&amp;offset=`) || !strings.Contains(page.body, `&amp;attempt=1"`) {
		t.Errorf("the page does not say where the rest comes from:\n%s", page.body)
	}
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	w.finish(id, fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, Message: "step test: exit status 3", LogBytes: 99, Steps: []fsm.StepResult{
		{Name: "build", Status: fsm.Passed, StartedAt: at, EndedAt: at.Add(2500 * time.Millisecond)},
		{Name: "<b>test</b>", Status: fsm.Failed, ExitCode: 3, StartedAt: at, EndedAt: at.Add(75 * time.Second)},
		{Name: "clean", Status: fsm.Passed}, {Name: "publish", Status: fsm.Skipped},
	}})
	page = w.nodes["a"].call("GET", "/jobs/1.1/log?attempt=1", "").want(200)
	wantPolicy(t, "a log that has ended", page)
	var heads []string
	for _, line := range outlineLog(t, page.body) {
		if !strings.Contains(line, ": ") {
			heads = append(heads, line)
		}
	}
	want = []string{"Preparing", "build passed step-0", "&lt;b&gt;test&lt;/b&gt; failed open step-1", "clean passed step-2", "&lt;b&gt;test&lt;/b&gt; failed open", "publish skipped step-3"}
	if !slices.Equal(heads, want) {
		t.Errorf("at the end the page has the groups\n%s\nwant\n%s", strings.Join(heads, "\n"), strings.Join(want, "\n"))
	}
	for _, word := range []string{`href="#L5">First failure`, "2.5 s", "1 min 15 s", "exit 3", "step test: exit status 3", `download="job-1.1-1.log"`} {
		if !strings.Contains(page.body, word) {
			t.Errorf("the page has no %q:\n%s", word, page.body)
		}
	}
	if strings.Contains(page.body, "data-stream") {
		t.Error("a page of a log that has ended waits for more")
	}
	part := w.nodes["a"].call("GET", "/jobs/1.1/log/heads?attempt=1&seen=2", "").want(200).body
	if !strings.Contains(part, `id="step-1-sum"`) || !strings.Contains(part, "exit 3") || strings.Contains(part, "<html") || strings.Contains(part, "<b>test") {
		t.Errorf("the part that changes is %s", part)
	}
}

// TestLogPageBeforeItBegins says what to do about a job that waits.
func TestLogPageBeforeItBegins(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.build("test")
	page := w.nodes["a"].call("GET", "/jobs/1.1/log", "").want(200)
	if !strings.Contains(page.body, "narwhal why 1.1") || !strings.Contains(page.body, `data-stream="/api/v1/jobs/1.1/logs/stream?format=html&amp;offset=0"`) {
		t.Errorf("the page is %s", page.body)
	}
}

// TestFollowLogAsHTML breaks the stream off in the middle and goes on where it was.
func TestFollowLogAsHTML(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.steps([]string{"build"}, "0 <first>", "0 \x1b[31msecond\x1b[0m", "0 \x1b]8;;javascript:alert(1)\x07third")
	lines := func(s *sse, n int) (out []api.LogLine, last string) {
		for len(out) < n {
			e := s.next()
			if e.name != "line" {
				continue
			}
			var line api.LogLine
			if err := json.Unmarshal([]byte(e.data), &line); err != nil {
				t.Fatal(err)
			}
			out, last = append(out, line), e.id
		}
		return out, last
	}
	const path = "/api/v1/jobs/1.1/logs/stream?format=html&attempt=1&offset=0"
	first, place := lines(w.nodes["a"].stream(path), 2)
	rest, _ := lines(w.nodes["b"].stream(path, "Last-Event-ID", place), 1)
	var got []string
	for _, line := range append(first, rest...) {
		if line.Text != "" {
			t.Errorf("the text comes too: %q", line.Text)
		}
		got = append(got, line.HTML)
	}
	want := []string{"&lt;first&gt;", `<span class="term-fg31">second</span>`, "third"}
	if !slices.Equal(got, want) {
		t.Errorf("the stream has %q, want %q", got, want)
	}
	w.nodes["a"].call("GET", "/api/v1/jobs/1.1/logs?format=html", "").want(422)
	w.nodes["a"].call("GET", "/api/v1/jobs/1.1/logs/stream?format=ndjson", "").want(422)
}

func TestLongLogPage(t *testing.T) {
	w := newWorld(t, nil, "a")
	id := job(w.build("test"), 1)
	w.assign(id, "a")
	w.start(id)
	var lines []string
	for i := range 100_001 {
		lines = append(lines, fmt.Sprint("line ", i, "."))
	}
	w.nodes["a"].logs.write(t, id, 1, lines...)
	body := w.nodes["a"].call("GET", "/jobs/1.1/log", "").want(200).body
	if !strings.Contains(body, "line 99999.") || strings.Contains(body, "line 100000.") || !strings.Contains(body, "beginning only") {
		t.Error("a page of more than 100,000 lines is not cut, or does not say so")
	}
	if got := strings.Count(body, `<div class="chunk">`); got != 200 {
		t.Errorf("it has %d chunks, want 200 of 500 lines", got)
	}
}

// TestLogPageUnderGzip has the page be the same, and small, for who takes gzip.
func TestLogPageUnderGzip(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.steps([]string{"count"}, slices.Repeat([]string{"0 the same line again"}, 2000)...)
	n := w.nodes["a"]
	want := n.call("GET", "/jobs/1.1/log", "").want(200).body
	for accepts, gzipped := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.00, br": false, "identity": false} {
		a := n.bare("GET", "/jobs/1.1/log", "", "Authorization", "Bearer "+n.auth.Token(), "Accept-Encoding", accepts).want(200)
		got := a.body
		if a.header.Get("Vary") != "Accept-Encoding" || (a.header.Get("Content-Encoding") == "gzip") != gzipped {
			t.Errorf("%q is answered with %v", accepts, a.header)
		}
		if gzipped {
			if len(a.body) > len(want)/4 {
				t.Errorf("%q: %d bytes of %d are left", accepts, len(a.body), len(want))
			}
			z, err := gzip.NewReader(strings.NewReader(a.body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if got != want {
			t.Errorf("%q is answered with another page", accepts)
		}
	}
}
