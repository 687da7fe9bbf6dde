package supervise_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// withFolders gives the job's attempt a folder beside the workspace, as nodes do.
func withFolders(t *testing.T, commands ...string) (j *job, workspace string) {
	t.Helper()
	j = newJob(t, commands...)
	workspace = filepath.Join(j.dir, "src")
	for _, dir := range []string{workspace, filepath.Join(j.dir, supervise.InDir), filepath.Join(j.dir, supervise.OutDir)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	j.task.Dir = workspace
	return j, workspace
}

func (j *job) out() (names []string) {
	j.t.Helper()
	entries, err := os.ReadDir(filepath.Join(j.dir, supervise.OutDir))
	if err != nil {
		j.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (j *job) listed(name string) (paths []string) {
	j.t.Helper()
	file, err := os.Open(filepath.Join(j.dir, supervise.OutDir, name))
	if err != nil {
		j.t.Fatal(err)
	}
	defer file.Close()
	sum, err := archive.List(j.t.Context(), file, archive.Limits{})
	if err != nil {
		j.t.Fatal(err)
	}
	for _, e := range sum.Entries {
		if !e.Mode.IsDir() {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

func TestArchives(t *testing.T) {
	make := "mkdir -p dist cache; echo app > dist/app; echo log > dist/log; echo x > cache/x; echo '<testsuite/>' > r.xml"
	want := &supervise.Artifacts{Paths: []string{"dist"}, Exclude: []string{"dist/log"}, File: "artifacts", JUnit: []string{"*.xml"}, JUnitFile: "junit"}
	for name, c := range map[string]struct {
		last string
		when pipeline.RunOn
		out  []string
	}{
		"passed":             {"true", "", []string{"artifacts", "cache-0", "junit"}},
		"failed":             {"exit 1", "", []string{"junit"}},
		"failed, always":     {"exit 1", pipeline.Always, []string{"artifacts", "junit"}},
		"failed, on failure": {"exit 1", pipeline.OnFailure, []string{"artifacts", "junit"}},
		"passed, on failure": {"true", pipeline.OnFailure, []string{"cache-0", "junit"}},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := withFolders(t, make, c.last)
			artifacts := *want
			artifacts.When = c.when
			j.task.Artifacts = &artifacts
			j.task.Caches = []supervise.Cache{{Name: "cache c-1", Key: "c-1", Paths: []string{"cache"}, File: "cache-0"},
				{Name: "cache none", Key: "none", Paths: []string{"nowhere"}, File: "cache-1"}}
			j.run(t.Context())
			if got := j.out(); !slices.Equal(got, c.out) {
				t.Fatalf("out holds %q, want %q; narwhal said %s", got, c.out, j.said())
			}
			if slices.Contains(c.out, "artifacts") && !slices.Equal(j.listed("artifacts"), []string{"dist/app"}) {
				t.Errorf("the artifacts are %q", j.listed("artifacts"))
			}
			var saved []string
			for _, r := range j.records() {
				if r.Kind == supervise.RecordSaved {
					saved = append(saved, r.Saved.File)
				}
			}
			if slices.Sort(saved); !slices.Equal(saved, c.out) {
				t.Errorf("the journal has %q, want %q", saved, c.out)
			}
		})
	}
}

func TestCacheThereAndBack(t *testing.T) {
	home := t.TempDir()
	j, _ := withFolders(t, "mkdir -p deps ~/.m2; echo one > deps/one; echo two > ~/.m2/two")
	paths := []string{"deps", "~/.m2"}
	j.task.Env = append(j.task.Env, "HOME="+home)
	j.task.Caches = []supervise.Cache{{Name: "cache d", Key: "d", Paths: paths, File: "d"}}
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	next, _ := withFolders(t, "cat deps/one ~/.m2/two")
	other := t.TempDir()
	next.task.Env = append(next.task.Env, "HOME="+other)
	next.task.Restore = []supervise.Restore{{Name: "cache d", Archive: "d", Paths: paths, Optional: true},
		{Name: "cache e", Archive: "e", Paths: paths, Optional: true}}
	data, err := os.ReadFile(filepath.Join(j.dir, supervise.OutDir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(next.dir, supervise.InDir, "d"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, next.run(t.Context()), fsm.Passed, "", 0, "")
	if got := next.printed(); got != "0 one\n0 two\n" {
		t.Errorf("printed %q", got)
	}
	if !strings.Contains(next.said(), "restored cache d: 2 files") || !strings.Contains(next.said(), "cache e could not be restored") {
		t.Errorf("narwhal said %q", next.said())
	}
	// What the job can't do without is another matter, and what is broken.
	next.task.Restore = []supervise.Restore{{Name: "artifacts of build", Archive: "d"}}
	if err := os.WriteFile(filepath.Join(next.dir, supervise.InDir, "d"), data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, next.run(t.Context()), fsm.Errored, "", 0, "artifacts of build could not be restored: ")
}

func TestArchivesOfAJobThatIsEnded(t *testing.T) {
	j, _ := withFolders(t, "echo a > a; sleep 600")
	j.task.Timeout = 2 * time.Second
	j.task.Artifacts = &supervise.Artifacts{Paths: []string{"a"}, When: pipeline.Always, File: "artifacts"}
	j.task.Caches = []supervise.Cache{{Name: "cache", Paths: []string{"a"}, File: "cache-0"}}
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 143, "the job took longer")
	if got := j.out(); !slices.Equal(got, []string{"artifacts"}) {
		t.Errorf("out holds %q", got)
	}
	j, workspace := withFolders(t, "echo a > a")
	j.task.Artifacts = &supervise.Artifacts{Paths: []string{"["}, File: "artifacts"}
	expect(t, j.run(t.Context()), fsm.Errored, "", 0, "save artifacts: ")
	if got := j.out(); len(got) != 0 {
		t.Errorf("out holds %q", got)
	}
	if _, err := os.Stat(filepath.Join(workspace, "a")); err != nil {
		t.Error(err)
	}
}

// TestArchivesThatAreTooLarge keeps a job from filling the disk by what it leaves:
// random bytes don't become fewer. Each kind has a limit of its own, and artifacts that
// are beyond theirs are the job's fault: it would be no better on another node.
func TestArchivesThatAreTooLarge(t *testing.T) {
	j, _ := withFolders(t, "head -c 200000 /dev/urandom > big; head -c 1000000 /dev/zero > zeros")
	j.task.CacheLimit, j.task.ArtifactsLimit = 100_000, 1_000_000
	j.task.Artifacts = &supervise.Artifacts{Paths: []string{"zeros"}, File: "artifacts"}
	j.task.Caches = []supervise.Cache{{Name: "cache", Paths: []string{"big"}, File: "cache-0"}}
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if got := j.out(); !slices.Equal(got, []string{"artifacts"}) {
		t.Errorf("out holds %q", got)
	}
	for _, a := range []supervise.Artifacts{{Paths: []string{"big"}, File: "artifacts"}, {JUnit: []string{"big"}, JUnitFile: "junit"}} {
		j, _ = withFolders(t, "head -c 200000 /dev/urandom > big")
		j.task.CacheLimit, j.task.ArtifactsLimit = 1_000_000, 100_000
		j.task.Artifacts = &a
		expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "too large: packed it has more than the 0.1 MiB")
		if got := j.out(); len(got) != 0 {
			t.Errorf("out holds %q", got)
		}
	}
}
