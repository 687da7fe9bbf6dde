package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// shelf is blobs as files, on this node and on "second".
type shelf struct {
	dir    string
	copied []string
	alone  bool  // no other node takes copies
	err    error // of Path
}

func (s *shelf) Put(_ context.Context, r io.Reader, limit int64) (string, int64, error) {
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) > limit {
		return "", 0, fmt.Errorf("%d bytes: %w", len(data), errors.Join(err, errors.New("too large")))
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	return digest, int64(len(data)), os.WriteFile(filepath.Join(s.dir, digest), data, 0o444)
}

func (s *shelf) Path(_ context.Context, b fsm.Blob) (string, error) {
	path := filepath.Join(s.dir, b.Digest)
	if s.err != nil {
		return "", s.err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("blob %.8s: %w", b.Digest, ErrNoBlob)
	}
	return path, nil
}

func (s *shelf) Copy(_ context.Context, b fsm.Blob) (fsm.NodeID, error) {
	if s.alone {
		return "", errors.New("there is no other node")
	}
	s.copied = append(s.copied, b.Digest)
	return "second", nil
}

// index is the caches of the replicated state, as its newest entries come last.
type index struct {
	entries []fsm.CacheEntry
	used    int
	err     error
}

func (x *index) Find(_ context.Context, repo string, scopes []string, key string, restore []string) (fsm.CacheEntry, bool, error) {
	for i, prefix := range append([]string{key}, restore...) {
		for _, scope := range scopes {
			for _, e := range slices.Backward(x.entries) {
				if e.Repo == repo && e.Scope == scope && (e.Key == prefix || i > 0 && strings.HasPrefix(e.Key, prefix)) {
					return e, true, x.err
				}
			}
		}
	}
	return fsm.CacheEntry{}, false, x.err
}

func (x *index) Save(_ context.Context, e fsm.CacheEntry) error {
	x.entries = append(x.entries, e)
	return nil
}

func (x *index) Used(context.Context, fsm.CacheEntry) error { x.used++; return nil }

func (x *index) Drop(_ context.Context, e fsm.CacheEntry) error {
	x.entries = slices.DeleteFunc(x.entries, func(o fsm.CacheEntry) bool { return o.Key == e.Key && o.Scope == e.Scope })
	return nil
}

// keptWorld is a keeper with its world, and what it has said.
type keptWorld struct {
	*keeper
	t     *testing.T
	shelf *shelf
	index *index
	now   time.Time
	said  []string
}

func newKeptWorld(t *testing.T) *keptWorld {
	w := &keptWorld{t: t, shelf: &shelf{dir: t.TempDir()}, index: &index{}, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	w.keeper = &keeper{node: "here", blobs: w.shelf, caches: w.index, log: slog.New(slog.DiscardHandler), now: func() time.Time { return w.now }, link: true}
	return w
}

func (w *keptWorld) say(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *keptWorld) heard(text string) bool {
	return slices.ContainsFunc(w.said, func(line string) bool { return strings.Contains(line, text) })
}

// task is an attempt whose checkout has the files.
func (w *keptWorld) task(spec pipeline.Job, files map[string]string) executor.Task {
	w.t.Helper()
	dir := w.t.TempDir()
	t := executor.Task{Dir: dir, Workspace: filepath.Join(dir, "src"), Work: link.Work{
		Spec: &spec, Commit: fsm.Commit{Repo: "acme/api"}, Scopes: []string{"pull/1", "repo"},
	}}
	for name, text := range files {
		w.write(filepath.Join(t.Workspace, name), text)
	}
	for _, d := range []string{t.Workspace, filepath.Join(dir, "out")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	return t
}

func (w *keptWorld) write(path, text string) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// leave packs files into an archive in the attempt's out folder.
func (w *keptWorld) leave(t executor.Task, name string, files map[string]string) {
	w.t.Helper()
	dir := w.t.TempDir()
	for path, text := range files {
		w.write(filepath.Join(dir, path), text)
	}
	var buf bytes.Buffer
	if _, err := archive.Pack(context.Background(), &buf, archive.PackOptions{Places: archive.Places{Root: dir}, Paths: []string{"."}}); err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(t.Dir, "out", name), buf.String())
}

func (w *keptWorld) bringAll(t *executor.Task) {
	w.t.Helper()
	if err := w.bring(context.Background(), t, w.say); err != nil {
		w.t.Fatal(err)
	}
}

func (w *keptWorld) end(t executor.Task, o fsm.Outcome) fsm.Outcome {
	w.t.Helper()
	o, err := w.collect(context.Background(), t, o, w.say)
	if err != nil {
		w.t.Error(err)
	}
	return o
}

func gomod(policy pipeline.CachePolicy) pipeline.Job {
	return pipeline.Job{Cache: []pipeline.Cache{{Key: "gomod-${checksum:go.sum}", RestoreKeys: []string{"gomod-"}, Paths: []string{"/go/pkg/mod"}, Policy: policy}}}
}

var passedOutcome = fsm.Outcome{Status: fsm.Passed}

// run is a job from its start to its end, that leaves a cache where it is asked to.
func (w *keptWorld) run(spec pipeline.Job, sum string, o fsm.Outcome) executor.Task {
	t := w.task(spec, map[string]string{"go.sum": sum})
	w.bringAll(&t)
	for _, c := range t.Caches {
		w.leave(t, c.File, map[string]string{"x": sum})
	}
	w.end(t, o)
	return t
}

func TestCacheFromRunToRun(t *testing.T) {
	w := newKeptWorld(t)
	first := w.run(gomod(""), "one", passedOutcome)
	if len(first.Restore) > 0 || len(first.Caches) != 1 || !w.heard("there is none yet") {
		t.Errorf("the first run: %+v, %+v, %q", first.Restore, first.Caches, w.said)
	}
	if len(w.index.entries) != 1 {
		t.Fatalf("the index has %+v", w.index.entries)
	}
	e := w.index.entries[0]
	if e.Scope != "pull/1" || e.Repo != "acme/api" || !slices.Equal(e.Blob.Holders, []fsm.NodeID{"here", "second"}) || e.Blob.Size == 0 || !e.SavedAt.Equal(w.now) {
		t.Errorf("saved %+v", e)
	}
	if strings.Contains(e.Key, "$") || !strings.Contains(e.Key, "/gomod-") || len(e.Key) != len("12345678/gomod-")+32 {
		t.Errorf("key %s", e.Key)
	}
	w.now = w.now.Add(2 * time.Hour)
	same := w.run(gomod(""), "one", passedOutcome)
	if len(same.Restore) != 1 || len(same.Caches) > 0 || len(w.index.entries) != 1 || w.index.used != 1 {
		t.Errorf("the same key: %+v, %+v; noted %d uses", same.Restore, same.Caches, w.index.used)
	}
	r := same.Restore[0]
	if !r.Optional || !slices.Equal(r.Paths, []string{"/go/pkg/mod"}) || r.Archive != "cache-0.tar.zst" {
		t.Errorf("restores %+v", r)
	}
	if info, err := os.Stat(filepath.Join(same.Dir, "in", r.Archive)); err != nil || info.Mode().Perm()&0o222 != 0 || info.Size() != e.Blob.Size {
		t.Errorf("the archive: %v", err)
	}
	other := w.run(gomod(""), "two", passedOutcome)
	if len(other.Restore) != 1 || !strings.Contains(other.Restore[0].Name, "(from gomod-") || len(other.Caches) != 1 || len(w.index.entries) != 2 {
		t.Errorf("another key: %+v, %+v", other.Restore, other.Caches)
	}
	elsewhere := gomod("")
	elsewhere.Cache[0].Paths = []string{"vendor"}
	if moved := w.run(elsewhere, "one", passedOutcome); len(moved.Restore) > 0 || len(w.index.entries) != 3 {
		t.Errorf("other paths: %+v", moved.Restore)
	}
}

func TestCachePolicies(t *testing.T) {
	for _, c := range []struct {
		policy          pipeline.CachePolicy
		outcome         fsm.Status
		restores, saves int
	}{
		{"", fsm.Passed, 1, 1}, {pipeline.CachePull, fsm.Passed, 1, 0}, {pipeline.CachePush, fsm.Passed, 0, 1},
		{"", fsm.Failed, 1, 0}, {"", fsm.Errored, 1, 0}, {"", fsm.Canceled, 1, 0}, {pipeline.CachePush, fsm.Failed, 0, 0},
	} {
		w := newKeptWorld(t)
		w.run(gomod(""), "one", passedOutcome)
		got := w.run(gomod(c.policy), "two", fsm.Outcome{Status: c.outcome})
		if len(got.Restore) != c.restores || len(w.index.entries)-1 != c.saves {
			t.Errorf("%q, %s: %d restored, %d saved", c.policy, c.outcome, len(got.Restore), len(w.index.entries)-1)
		}
	}
}

// Whatever becomes of a cache, it fails no job.
func TestCacheTrouble(t *testing.T) {
	w := newKeptWorld(t)
	w.run(gomod(""), "one", passedOutcome)
	w.index.err = errors.New("no leader")
	if got := w.run(gomod(""), "one", passedOutcome); len(got.Restore) > 0 || !w.heard("no leader") {
		t.Errorf("an index that can't be asked: %q", w.said)
	}
	w = newKeptWorld(t)
	w.run(gomod(""), "one", passedOutcome)
	w.shelf.err = errors.New("the line is cut")
	if got := w.run(gomod(""), "one", fsm.Outcome{Status: fsm.Failed}); len(got.Restore) > 0 || len(w.index.entries) != 1 || !w.heard("the line is cut") {
		t.Errorf("a holder that is away is no reason to forget it: %+v, %q", w.index.entries, w.said)
	}
	w.shelf.err = fmt.Errorf("everybody says so: %w", ErrNoBlob)
	if w.run(gomod(""), "one", fsm.Outcome{Status: fsm.Failed}); len(w.index.entries) > 0 || !w.heard("it is lost") {
		t.Errorf("a lost one: %+v, %q", w.index.entries, w.said)
	}
	w.shelf.err, w.shelf.alone = nil, true
	w.run(gomod(""), "one", passedOutcome)
	if len(w.index.entries) != 1 || len(w.index.entries[0].Blob.Holders) != 1 || !w.heard("on this node only") {
		t.Errorf("without a second node: %+v", w.index.entries)
	}
	w.limits.Cache = 10
	if w.run(gomod(""), "large", passedOutcome); len(w.index.entries) != 1 || !w.heard("the limit is 10") {
		t.Errorf("over the limit: %+v, %q", w.index.entries, w.said)
	}
	task := w.task(gomod(""), nil)
	task.Work.Scopes = nil
	if w.bringAll(&task); len(task.Caches) > 0 {
		t.Errorf("without a scope: %+v", task.Caches)
	}
}

// After a restart of the node the job's own changes to its files count for nothing.
func TestKeyIsKeptOverARestart(t *testing.T) {
	w := newKeptWorld(t)
	task := w.task(gomod(""), map[string]string{"go.sum": "one"})
	w.bringAll(&task)
	w.write(filepath.Join(task.Workspace, "go.sum"), "changed by the job")
	w.leave(task, "cache-0.tar.zst", map[string]string{"x": "y"})
	w.end(executor.Task{Dir: task.Dir, Workspace: task.Workspace, Work: task.Work}, passedOutcome)
	w.run(gomod(""), "one", passedOutcome)
	if len(w.index.entries) != 1 {
		t.Errorf("%+v", w.index.entries)
	}
}

func TestChecksums(t *testing.T) {
	w := newKeptWorld(t)
	task := w.task(pipeline.Job{}, map[string]string{"go.sum": "s", "a/package-lock.json": "1", "b/package-lock.json": "2", "d/f": ""})
	for name, target := range map[string]string{"in": "go.sum", "out": "/etc/passwd", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(task.Workspace, name)); err != nil {
			t.Fatal(err)
		}
	}
	sum := func(text string) string {
		t.Helper()
		got, err := (&checksums{dir: task.Workspace, say: w.say}).replace(context.Background(), text)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	one, both := sum("${checksum:go.sum}"), sum("${checksum:**/package-lock.json}")
	if len(one) != 32 || len(both) != 32 || one == both || sum("x-${checksum:go.sum}-${checksum:./go.sum}y") != "x-"+one+"-"+one+"y" {
		t.Errorf("sums are %s and %s", one, both)
	}
	for _, plain := range []string{"", "plain", "${checksum:open", "${other}"} {
		if got := sum(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
	for _, none := range []string{"missing", "*.missing", "out", "loop", "../src/go.sum", "/etc/passwd", "d", "[", ""} {
		w.said = nil
		if got := sum("k-${checksum:" + none + "}"); got != "k-none" || len(w.said) != 1 {
			t.Errorf("%q became %q, and was told %q", none, got, w.said)
		}
	}
	if got := sum("${checksum:in}"); got == "none" {
		t.Error("a link within the checkout can't be summed up")
	}
	w.write(filepath.Join(task.Workspace, "b/package-lock.json"), "3")
	if sum("${checksum:**/package-lock.json}") == both {
		t.Error("another file, the same sum")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (&checksums{dir: task.Workspace, say: w.say}).replace(ctx, "${checksum:go.sum}"); !errors.Is(err, context.Canceled) {
		t.Errorf("want canceled, got %v", err)
	}
}

func TestArtifactsFromJobToJob(t *testing.T) {
	w := newKeptWorld(t)
	w.link = false
	build := w.task(pipeline.Job{Artifacts: &pipeline.Artifacts{Paths: []string{"dist"}, ExpireIn: time.Hour}}, nil)
	w.leave(build, executor.ArtifactsFile, map[string]string{"dist/app": "binary"})
	o := w.end(build, passedOutcome)
	a := o.Artifacts
	if a == nil || a.Files != 1 || a.Bytes != 6 || !a.ExpireAt.Equal(w.now.Add(time.Hour)) || len(a.Archive.Holders) != 2 {
		t.Fatalf("left %+v, %+v", o, a)
	}
	test := w.task(pipeline.Job{}, nil)
	test.Work.Artifacts = map[string]fsm.Artifacts{"build": *a, "also": *a}
	w.bringAll(&test)
	if len(test.Restore) != 2 || test.Restore[0].Name != "artifacts of job also" || test.Restore[1].Archive != "artifacts-1.tar.zst" || test.Restore[1].Optional {
		t.Errorf("gives %+v", test.Restore)
	}
	f, err := os.Open(filepath.Join(test.Dir, "in", "artifacts-1.tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := t.TempDir()
	if _, err := archive.Unpack(context.Background(), f, archive.UnpackOptions{Places: archive.Places{Root: to}}); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(to, "dist/app")); err != nil || string(data) != "binary" {
		t.Errorf("%q, %v", data, err)
	}
	w.shelf.err = ErrNoBlob
	err = w.bring(context.Background(), &test, w.say)
	if o := errored(err, fsm.CauseConfig); err == nil || o.Cause != fsm.CauseNodeLost || !strings.Contains(o.Message, "the artifacts of job also could not be had: no node has it") {
		t.Errorf("lost ones: %+v", o)
	}
}

func TestWhenArtifactsAreKept(t *testing.T) {
	for _, c := range []struct {
		on   pipeline.RunOn
		s    fsm.Status
		want bool
	}{
		{pipeline.OnSuccess, fsm.Passed, true}, {pipeline.OnSuccess, fsm.Failed, false}, {pipeline.OnFailure, fsm.Passed, false}, {pipeline.OnFailure, fsm.Failed, true},
		{pipeline.Always, fsm.Passed, true}, {pipeline.Always, fsm.Failed, true}, {pipeline.Always, fsm.Errored, false}, {pipeline.Always, fsm.Canceled, false},
	} {
		w := newKeptWorld(t)
		task := w.task(pipeline.Job{Artifacts: &pipeline.Artifacts{Paths: []string{"x"}, When: c.on}}, nil)
		w.leave(task, executor.ArtifactsFile, map[string]string{"x": "x"})
		if o := w.end(task, fsm.Outcome{Status: c.s}); (o.Artifacts != nil) != c.want || o.Status != c.s {
			t.Errorf("%q, %s: %+v", c.on, c.s, o)
		}
	}
}

// What lies in out is the job's: it may have put anything there.
func TestHostileOut(t *testing.T) {
	spec := pipeline.Job{Artifacts: &pipeline.Artifacts{Paths: []string{"x"}, When: pipeline.Always, JUnit: []string{"*.xml"}}}
	for what, c := range map[string]struct {
		put  func(dir, file string) error // in the place of the archive
		want string
	}{
		"link":            {func(_, file string) error { return os.Symlink("/etc/passwd", file) }, "no regular file"},
		"link inside":     {func(dir, file string) error { return os.Symlink("../caches.json", file) }, "no regular file"},
		"fifo":            {func(_, file string) error { return syscall.Mkfifo(file, 0o666) }, "no regular file"},
		"folder":          {func(_, file string) error { return os.Mkdir(file, 0o777) }, "no regular file"},
		"text":            {func(_, file string) error { return os.WriteFile(file, []byte("text"), 0o666) }, "corrupt archive"},
		"empty":           {func(_, file string) error { return os.WriteFile(file, nil, 0o666) }, "corrupt archive"},
		"larger than may": {func(_, file string) error { return os.WriteFile(file, make([]byte, 3000), 0o666) }, "the limit is 2000"},
		"out is a link": {func(dir, _ string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "out")), os.Symlink("/etc", filepath.Join(dir, "out")))
		}, "no regular file"},
		"out is a file": {func(dir, _ string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "out")), os.WriteFile(filepath.Join(dir, "out"), nil, 0o666))
		}, "no regular file"},
	} {
		w := newKeptWorld(t)
		w.limits = KeepLimits{Artifacts: 2000, Reports: 2000}
		task := w.task(spec, nil)
		if err := c.put(task.Dir, filepath.Join(task.Dir, "out", executor.ArtifactsFile)); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(what, "out") {
			if err := c.put(task.Dir, filepath.Join(task.Dir, "out", executor.JUnitFile)); err != nil {
				t.Fatal(err)
			}
		}
		o := w.end(task, passedOutcome)
		if o.Status != fsm.Errored || o.Artifacts != nil || !strings.Contains(o.Message, c.want) {
			t.Errorf("%s: %+v", what, o)
		}
		if o.Tests == nil || len(o.Tests.Broken) != 1 || !strings.Contains(o.Tests.Broken[0], c.want) {
			t.Errorf("%s: reports are %+v", what, o.Tests)
		}
		if o := w.end(task, fsm.Outcome{Status: fsm.Failed}); o.Status != fsm.Failed || !w.heard(c.want) {
			t.Errorf("%s: a job that failed: %+v, %q", what, o, w.said)
		}
		if names, err := os.ReadDir(w.shelf.dir); err != nil || len(names) > 0 {
			t.Errorf("%s: stored %v, %v", what, names, err)
		}
	}
}

// A node that goes away in the middle takes it all again after its restart.
func TestCollectIsGivenUp(t *testing.T) {
	w := newKeptWorld(t)
	task := w.task(pipeline.Job{Artifacts: &pipeline.Artifacts{Paths: []string{"x"}, When: pipeline.Always}}, nil)
	w.leave(task, executor.ArtifactsFile, map[string]string{"x": "x"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range []fsm.Status{fsm.Passed, fsm.Failed} {
		if _, err := w.collect(ctx, task, fsm.Outcome{Status: s}, w.say); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: want canceled, got %v", s, err)
		}
		if o := w.end(task, fsm.Outcome{Status: s}); o.Artifacts == nil || o.Status != s {
			t.Errorf("%s, again: %+v", s, o)
		}
	}
}

func TestReportsAreSummedUp(t *testing.T) {
	w := newKeptWorld(t)
	task := w.task(pipeline.Job{Artifacts: &pipeline.Artifacts{JUnit: []string{"r/*.xml"}}}, nil)
	if o := w.end(task, passedOutcome); o.Tests != nil || o.Status != fsm.Passed {
		t.Errorf("without reports: %+v", o)
	}
	w.leave(task, executor.JUnitFile, map[string]string{
		"r/a.xml": `<testsuite name="s"><testcase name="one"/><testcase name="two"><failure>no</failure></testcase></testsuite>`,
		"r/b.xml": `<testsuites><testsuite><testcase name="three"><skipped/></testcase></testsuite></testsuites>`,
		"r/c.xml": `no report`,
	})
	for _, s := range []fsm.Status{fsm.Passed, fsm.Failed, fsm.Errored} {
		o := w.end(task, fsm.Outcome{Status: s})
		r := o.Tests
		if r == nil || r.Passed != 1 || r.Failed != 1 || r.Skipped != 1 || r.Failures[0].Text != "no" || len(r.Broken) != 1 || o.Status != s {
			t.Errorf("%s: %+v", s, r)
		}
	}
}

// Artifacts that can't be kept because of what they are end the job where it ran: it
// would leave the same on another node. What the node is to blame for is run again.
func TestArtifactsThatCannotBeKept(t *testing.T) {
	spec := pipeline.Job{Artifacts: &pipeline.Artifacts{Paths: []string{"dist"}}}
	for name, c := range map[string]struct {
		leave func(w *keptWorld, task executor.Task)
		cause fsm.Cause
		says  string
	}{
		"too large": {func(w *keptWorld, task executor.Task) {
			w.limits.Artifacts = 10
			w.leave(task, executor.ArtifactsFile, map[string]string{"dist/app": "binary"})
		}, fsm.CauseConfig, "too large: "},
		"too large unpacked": {func(w *keptWorld, task executor.Task) {
			w.limits.Artifacts = 1000
			w.leave(task, executor.ArtifactsFile, map[string]string{"dist/app": strings.Repeat("0", 17_000)})
		}, fsm.CauseConfig, "too large: "},
		"no archive": {func(w *keptWorld, task executor.Task) {
			w.write(filepath.Join(task.Dir, "out", executor.ArtifactsFile), "what the job wrote in its place")
		}, fsm.CauseConfig, "corrupt archive"},
		"no file": {func(w *keptWorld, task executor.Task) {
			w.write(filepath.Join(task.Dir, "out", executor.ArtifactsFile, "x"), "")
		}, fsm.CauseConfig, "no regular file"},
		"no disk": {func(w *keptWorld, task executor.Task) {
			w.leave(task, executor.ArtifactsFile, map[string]string{"dist/app": "binary"})
			if err := os.RemoveAll(w.shelf.dir); err != nil {
				t.Fatal(err)
			}
		}, fsm.CauseNodeLost, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newKeptWorld(t)
			task := w.task(spec, nil)
			c.leave(w, task)
			o := w.end(task, passedOutcome)
			if o.Status != fsm.Errored || o.Cause != c.cause || o.Artifacts != nil || !strings.Contains(o.Message, c.says) {
				t.Errorf("it ended %s (%s): %s", o.Status, o.Cause, o.Message)
			}
		})
	}
}

// Each kind of archive is bounded by its own limit while it is packed, not only when
// it is kept.
func TestArchivesAreBoundedWhereTheyArePacked(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.Keep = KeepLimits{Cache: 7, Artifacts: 5} }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	if task := n.m.awaitRun(t, a).task; task.CacheLimit != 7 || task.ArtifactsLimit != 5 {
		t.Errorf("the limits are %d and %d", task.CacheLimit, task.ArtifactsLimit)
	}
	n.m.exit(a, passed())
	n.settled()
	n.end()
}
