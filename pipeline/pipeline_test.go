package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var rewrite = flag.Bool("rewrite", false, "write what is read now into testdata/*.txt, to be checked by eye")

// TestScripts reads testdata/*.txt: txtar archives of inputs NAME.yml, each
// followed by NAME.plan or NAME.errors.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("find scripts: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	script, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatalf("read script: %v", err)
	}
	wants := map[string]string{}
	for _, f := range script.Files {
		if filepath.Ext(f.Name) != ".yml" {
			wants[f.Name] = string(f.Data)
		}
	}
	out := &txtar.Archive{Comment: script.Comment}
	seen := map[string]bool{}
	for _, f := range script.Files {
		base, isInput := strings.CutSuffix(f.Name, ".yml")
		if !isInput {
			continue
		}
		if seen[base] {
			t.Errorf("%s is there twice", f.Name)
		}
		seen[base] = true
		name, got := outcome(t, base, f.Data)
		out.Files = append(out.Files, f, txtar.File{Name: name, Data: []byte(got)})
		if want, ok := wants[name]; !*rewrite && (!ok || got != want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, txtar.Format(out), 0o644); err != nil {
			t.Fatalf("write script: %v", err)
		}
	}
}

// plan reads a file and plans it for a push to main.
func plan(name string, data []byte, opts Options) (Pipeline, error) {
	f, err := Read(name, data, opts)
	if err != nil {
		return Pipeline{}, err
	}
	return f.Plan(onMain)
}

var onMain = Facts{
	Repo: "acme/api", Commit: "4a7d1ed414474e4033ac29ccb8653d9b4a7d1ed4", Ref: "refs/heads/main", Branch: "main",
	Event: "push", Build: "42",
}

// outcome reads a file and plans it: for a push to main, and then for each line
// "# facts: key=value …" that it holds.
func outcome(t *testing.T, base string, data []byte) (name, text string) {
	t.Helper()
	f, err := Read("narwhal.yml", data, Options{})
	if err != nil {
		checkErrors(t, err)
		return base + ".errors", err.Error() + "\n"
	}
	var b strings.Builder
	for _, w := range f.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	b.WriteString(planned(t, f, onMain))
	for line := range strings.Lines(string(data)) {
		if words, ok := strings.CutPrefix(line, "# facts: "); ok {
			fmt.Fprintf(&b, "\n== %s", words)
			b.WriteString(planned(t, f, factsOf(t, words)))
		}
	}
	return base + ".plan", b.String()
}

func planned(t *testing.T, f *File, facts Facts) string {
	t.Helper()
	p, err := f.Plan(facts)
	if err != nil {
		checkErrors(t, err)
		return err.Error() + "\n"
	}
	checkPlan(t, p)
	return p.String()
}

// factsOf changes onMain by words: branch=, tag=, pr=BASE, event=, changed=A,B,
// input.NAME=.
func factsOf(t *testing.T, words string) Facts {
	t.Helper()
	f := onMain
	f.Inputs = map[string]string{}
	for _, word := range strings.Fields(words) {
		key, value, _ := strings.Cut(word, "=")
		input, isInput := strings.CutPrefix(key, "input.")
		switch {
		case isInput:
			f.Inputs[input] = value
		case key == "branch":
			f.Branch, f.Ref = value, "refs/heads/"+value
		case key == "tag":
			f.Branch, f.Tag, f.Ref, f.Event = "", value, "refs/tags/"+value, "tag"
		case key == "pr":
			f.Branch, f.Base, f.Ref, f.Event, f.PullRequest = "", value, "refs/pull/7/head", "pull_request", "7"
		case key == "event":
			f.Event = value
		case key == "changed":
			f.Changed, f.ChangedKnown = strings.Split(value, ","), true
		default:
			t.Fatalf("facts: %q", word)
		}
	}
	return f
}

// checkPlan states what everyone may rely on in a plan.
func checkPlan(t *testing.T, p Pipeline) {
	t.Helper()
	names := map[string]bool{}
	for _, j := range p.Jobs {
		of, isMatrix := j.Name, j.Of != ""
		if isMatrix {
			of = j.Of
		}
		if names[j.Name] || !isJobName(of) || isMatrix != (j.Matrix != nil) || !strings.HasPrefix(j.Name, of) {
			t.Errorf("job name %q is bad or there twice", j.Name)
		}
		names[j.Name] = true
		if len(j.Steps) == 0 || j.Image == "" || j.Timeout <= 0 || j.Timeout > maxTimeout ||
			j.Resources.CPU <= 0 || j.Resources.Memory <= 0 || j.Resources.Disk < 0 || j.OnNodeLoss == "" {
			t.Errorf("job %q is not complete: %+v", j.Name, j)
		}
		for i, s := range j.Steps {
			for _, n := range s.Needs {
				if n < 0 || n >= i || !s.Parallel {
					t.Errorf("job %q, step %d needs step %d", j.Name, i, n)
				}
			}
			if s.Name == "" || len(s.Command) == 0 || strings.TrimSpace(s.Command[0]) == "" {
				t.Errorf("job %q: step is not complete: %+v", j.Name, s)
			}
		}
	}
	if len(p.Jobs) == 0 || len(p.Jobs) > maxJobs {
		t.Errorf("%d jobs", len(p.Jobs))
	}
	// With all needs known and no cycle, some order runs every job.
	for ran := map[string]bool{}; len(ran) < len(p.Jobs); {
		before := len(ran)
		for _, j := range p.Jobs {
			ready := true
			for _, n := range j.Needs {
				ready = ready && ran[n]
			}
			if ready {
				ran[j.Name] = true
			}
		}
		if len(ran) == before {
			t.Fatalf("jobs wait forever: %d of %d ran", before, len(p.Jobs))
		}
	}
}

func checkErrors(t *testing.T, err error) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 || len(errs) > maxErrors {
		t.Fatalf("error is no Errors, or too many: %T %v", err, err)
	}
	for i, e := range errs {
		if e.File == "" || e.Line < 1 || e.Column < 1 || e.Message == "" || len(e.Message) > 1500 ||
			strings.ContainsAny(e.Message, "\n\r\x00") {
			t.Errorf("error is not fit to show: %#v", e)
		}
		if i > 0 && (e.Line < errs[i-1].Line || e.Line == errs[i-1].Line && e.Column < errs[i-1].Column) {
			t.Errorf("errors are not in order: %v after %v", e, errs[i-1])
		}
	}
}

func TestNothingSharedBetweenJobs(t *testing.T) {
	p, err := plan("", []byte(`
env: {A: "1"}
labels: {zone: a}
jobs:
  one: {steps: [{command: a}]}
  two: {steps: [{command: b}]}
`), Options{DefaultImage: "alpine:3"})
	if err != nil {
		t.Fatal(err)
	}
	p.Jobs[0].Env["A"], p.Jobs[0].Labels["zone"] = "2", "b"
	if p.Jobs[1].Env["A"] != "1" || p.Jobs[1].Labels["zone"] != "a" {
		t.Errorf("a change of job one reached job two: %+v", p.Jobs[1])
	}
	if p.Jobs[0].Image != "alpine:3" {
		t.Errorf("image = %q, want the operator's default", p.Jobs[0].Image)
	}
}

// TestAllowedErrors has every plan say, for the state, that an allowed job may be
// one that could not be run.
func TestAllowedErrors(t *testing.T) {
	p, err := plan("", []byte(`
jobs:
  may: {allow_failure: true, steps: [{command: a}]}
  some: {matrix: {x: [true, false]}, allow_failure: "${matrix.x}", steps: [{command: b}]}
  must: {steps: [{command: c, allow_failure: true}]}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"may": true, "some (true)": true, "some (false)": false, "must": false}
	for _, j := range p.Jobs {
		if w, ok := want[j.Name]; !ok || j.AllowErrors != w || j.AllowFailure != w {
			t.Errorf("%s: allow_failure %v, allow_errors %v, want %v", j.Name, j.AllowFailure, j.AllowErrors, w)
		}
	}
	if len(p.Jobs) != len(want) {
		t.Errorf("%d jobs, want %d", len(p.Jobs), len(want))
	}
}

func TestJSONRoundTrip(t *testing.T) {
	p, err := plan("", []byte(`
name: api
resources: {cpu: 2, memory: 2Gi, disk: 10G}
clone: {depth: 1, submodules: true, lfs: true, skip: true}
jobs:
  a: {on_node_loss: fail, priority: -3, timeout: 90s, labels: {os: linux}, steps: [{name: x, command: y, dependencies: [git], env: {A: b}, timeout: 2s}]}
  b: {needs: [a], steps: [{commands: [c, d]}]}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Pipeline
	if err := json.Unmarshal(wire, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, back) {
		t.Errorf("got %+v, want %+v", back, p)
	}
	for _, key := range []string{`"on_node_loss":"fail"`, `"cpu":2000`, `"memory":2147483648`, `"disk":10000000000`} {
		if !bytes.Contains(wire, []byte(key)) {
			t.Errorf("%s is not in %s", key, wire)
		}
	}
}

func TestValues(t *testing.T) {
	for s, want := range map[string]int64{
		"2": 2000, "0.5": 500, "500m": 500, "1.25": 1250, "10m": 10, "1024": 1024000, "1.0005": 1000,
		"": -1, "0": -1, "9m": -1, "1025": -1, "-1": -1, "1e3": -1, "0x2": -1, "2.": -1, ".5": -1, "1.5m": -1,
		"2 ": -1, "1/2": -1, "1_0": -1, "99999999999999999999": -1, "٣": -1, "m": -1,
	} {
		if got, err := ParseCPU(s); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("ParseCPU(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]int64{
		"1": 1, "512Mi": 512 << 20, "2Gi": 2 << 30, "1G": 1e9, "1.5Gi": 3 << 29, "10k": 10000, "10K": 10000,
		"0.1G": 1e8, "1024Ti": 1 << 50, "1073741824": 1 << 30,
		"": -1, "0": -1, "1025Ti": -1, "512m": -1, "2GB": -1, "2gi": -1, "Gi": -1, "1.5": -1, "-1Gi": -1, "1e9": -1,
		"9999999999999999999999Ti": -1, "1 Gi": -1, "1.Gi": -1, "1..5Gi": -1, "NaN": -1, "Inf": -1,
	} {
		if got, err := ParseSize(s); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]time.Duration{
		"20m": 20 * time.Minute, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1d": 24 * time.Hour,
		"1d12h": 36 * time.Hour, "7d": maxTimeout, "168h": maxTimeout, "1.5h": 90 * time.Minute, "1ms": time.Millisecond,
		"": -1, "0": -1, "0s": -1, "0d": -1, "-5m": -1, "20": -1, "8d": -1, "7d1s": -1, "1d-1h": -1, "d": -1, "1dd": -1,
		"9999999d": -1, "99999999h": -1, "1.5d": -1, "5 m": -1, "1h1d": -1, "65535d2000000h": -1,
	} {
		if got, err := parseTimeout(s); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("parseTimeout(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	for word, want := range map[string]string{
		"imagee": "image", "IMAGE": "image", "iamge": "image", "on-node-loss": "on_node_loss", "onNodeLoss": "on_node_loss",
		"environment": "env", "prority": "priority", "zzz": "", "job": "jobs", "": "", "e": "",
		strings.Repeat("image", 1000): "",
	} {
		if got := suggest(word, inTop.keys()); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
}

// TestDocs reads every yaml block of the reference, each a complete file.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/pipeline.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	var block strings.Builder
	start := 0
	for i, line := range strings.Split(string(doc), "\n") {
		switch {
		case start == 0 && line == "```yaml":
			start = i + 1
			block.Reset()
		case start > 0 && line == "```":
			blocks++
			if p, err := plan(fmt.Sprintf("block at line %d", start), []byte(block.String()), Options{}); err != nil {
				t.Errorf("%v", err)
			} else {
				checkPlan(t, p)
			}
			start = 0
		case start > 0:
			block.WriteString(line + "\n")
		}
	}
	if blocks < 10 || start > 0 {
		t.Errorf("%d yaml blocks, the last open: %v", blocks, start > 0)
	}
	for _, p := range places {
		for _, key := range p.keys() {
			if !bytes.Contains(doc, []byte("`"+key+"`")) {
				t.Errorf("docs/pipeline.md does not tell of `%s` %s", key, p.where)
			}
		}
	}
}
