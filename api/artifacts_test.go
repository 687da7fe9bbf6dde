package api_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/junit"
)

// leave has a job pass with these files as artifacts, which a node then holds.
func (w *world) leave(id fsm.JobID, at fsm.NodeID, expire time.Time, files map[string]string) fsm.Artifacts {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	sum, err := archive.Pack(context.Background(), &packed, archive.PackOptions{Places: archive.Places{Root: dir}, Paths: []string{"."}})
	if err != nil {
		w.t.Fatal(err)
	}
	digest, size, err := w.nodes[at].blobs.Put(context.Background(), &packed, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	left := fsm.Artifacts{Archive: fsm.Blob{Digest: digest, Size: size, Holders: []fsm.NodeID{at}}, Files: sum.Files, Bytes: sum.Bytes, ExpireAt: expire}
	w.assign(id, at)
	w.finish(id, fsm.Outcome{Status: fsm.Passed, Artifacts: &left})
	return left
}

func TestArtifacts(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	id := w.build("dist", "old", "nothing")
	const page = "<script>alert(1)</script>"
	left := w.leave(job(id, 1), "b", time.Time{}, map[string]string{"dist/app": "program", "dist/in dex\".html": page})
	w.leave(job(id, 2), "b", time.Now().Add(-time.Hour), map[string]string{"x": "y"})

	var list api.ArtifactList
	n.call("GET", "/api/v1/jobs/1.1/artifacts", "").want(200).into(&list)
	if len(list.Files) != 2 || list.Files[0].Path != "dist/app" || list.Files[0].Size != 7 || list.Attempt != 1 || list.Artifacts.Files != 2 {
		t.Errorf("listed as %+v", list)
	}
	file := n.call("GET", "/api/v1/jobs/1.1/artifacts/file?path=dist/app", "").want(200)
	if file.body != "program" || file.header.Get("Content-Length") != "7" {
		t.Errorf("%q, %v", file.body, file.header)
	}
	// What a job wrote is never shown as a page of ours.
	html := n.call("GET", "/api/v1/jobs/1.1/artifacts/file?path=dist/in%20dex%22.html", "").want(200)
	if html.body != page || html.header.Get("Content-Type") != "application/octet-stream" || html.header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(html.header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%q, %v", html.body, html.header)
	}
	if all := n.call("GET", "/api/v1/jobs/1.1/artifacts/archive", "").want(200); int64(len(all.body)) != left.Archive.Size {
		t.Errorf("the archive has %d bytes, want %d", len(all.body), left.Archive.Size)
	}
	for _, path := range []string{"nothing", "../dist/app", "/etc/passwd", "dist", ""} {
		n.call("GET", "/api/v1/jobs/1.1/artifacts/file?path="+path, "").wantProblem(404, api.CodeNotFound)
	}
	n.call("GET", "/api/v1/jobs/1.2/artifacts", "").wantProblem(410, api.CodeGone)
	n.call("GET", "/api/v1/jobs/1.3/artifacts", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/1.1/artifacts/archive?attempt=2", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/1.1/artifacts/archive?attempt=x", "").wantProblem(422, api.CodeInvalid)
	if n.bare("GET", "/api/v1/jobs/1.1/artifacts/archive", "").status != 401 {
		t.Error("a stranger could download")
	}
	w.nodes["b"].down = true
	n.call("GET", "/api/v1/jobs/1.1/artifacts", "").wantProblem(503, api.CodeNodeUnreachable)
}

// TestManyArtifacts are listed up to a bound, which the list tells of.
func TestManyArtifacts(t *testing.T) {
	w := newWorld(t, nil, "a")
	files := make(map[string]string)
	for i := range 10_003 {
		files[strconv.Itoa(i)] = ""
	}
	w.leave(job(w.build("many"), 1), "a", time.Time{}, files)
	var list api.ArtifactList
	w.nodes["a"].call("GET", "/api/v1/jobs/1.1/artifacts", "").want(200).into(&list)
	if len(list.Files) != 10_000 || !list.More || list.Artifacts.Files != 10_003 {
		t.Errorf("%d files listed, more %v, of %d", len(list.Files), list.More, list.Artifacts.Files)
	}
}

// report is one of tests that passed and those that failed.
func report(passed, failed []string) *fsm.TestReport {
	var r junit.Reports
	for _, name := range passed {
		r.Add("r.xml", strings.NewReader(`<testsuite name="s"><testcase name="`+name+`"/></testsuite>`))
	}
	for _, name := range failed {
		r.Add("r.xml", strings.NewReader(`<testsuite name="s"><testcase name="`+name+`"><failure>boom</failure></testcase></testsuite>`))
	}
	return r.Report()
}

func TestBuildTests(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	first, second := w.build("unit", "lint"), w.build("unit")
	w.assign(job(first, 1), "a")
	w.finish(job(first, 1), fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, Tests: report([]string{"three", "four"}, []string{"one", "two"})})
	w.assign(job(second, 1), "a")
	w.finish(job(second, 1), fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, Tests: report([]string{"three", "one"}, []string{"two", "five"})})

	for _, id := range []string{"1", "2"} {
		var got api.BuildTests
		n.call("GET", "/api/v1/builds/"+id+"/tests", "").want(200).into(&got)
		if len(got.Jobs) != 1 || got.Jobs[0].Name != "unit" || got.Passed+got.Failed != 4 {
			t.Fatalf("build %s: %+v", id, got)
		}
		if f := got.Jobs[0].Flaky; len(f) != 1 || f[0].Name != "one" {
			t.Errorf("build %s: flaky are %+v, want one", id, f)
		}
	}
	n.call("GET", "/api/v1/builds/9/tests", "").wantProblem(404, api.CodeNotFound)
}

func TestCachesOfNodes(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	ask := func(at fsm.NodeID, body string) (int, string) {
		resp, err := plainClient.Post(w.nodes[at].private.URL+api.CachePath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var text bytes.Buffer
		if _, err := text.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, text.String()
	}
	find := `{"find":{"repo":"acme/api","scopes":["repo"],"key":"k-2","restore":["k-"]}}`
	if status, _ := ask("a", find); status != 204 {
		t.Errorf("nothing: status %d", status)
	}
	save := `{"save":{"entry":{"repo":"acme/api","scope":"repo","key":"k-1","blob":{"digest":"` + strings.Repeat("ab", 32) + `","size":7}}}}`
	if status, text := ask("a", save); status != 204 {
		t.Errorf("save: status %d %s", status, text)
	}
	if status, text := ask("a", find); status != 200 || !strings.Contains(text, `"k-1"`) {
		t.Errorf("found: status %d %s", status, text)
	}
	if status, _ := ask("b", find); status != 503 {
		t.Errorf("at a node that does not lead: status %d", status)
	}
	if status, _ := ask("a", `{`); status != 422 {
		t.Errorf("bad body: status %d", status)
	}
	if status := w.nodes["a"].call("POST", api.CachePath, find).status; status != 404 {
		t.Errorf("on the public port: status %d", status)
	}
}
