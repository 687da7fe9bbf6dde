package sketch

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/codepr/narwhal/pipeline"
)

var rewrite = flag.Bool("rewrite", false, "write what is sketched now into testdata/*.txt, to be checked by eye")

const sketched = "WANT narwhal.yml"

// TestSketches reads testdata/*.txt: the files of a repository, and then what is
// sketched for it.
func TestSketches(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d scripts, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			root := fstest.MapFS{}
			out := &txtar.Archive{Comment: script.Comment}
			var want []byte
			for _, f := range script.Files {
				if f.Name == sketched {
					want = f.Data
					continue
				}
				root[f.Name] = &fstest.MapFile{Data: f.Data}
				out.Files = append(out.Files, f)
			}
			got := File(root)
			check(t, got)
			if *rewrite {
				out.Files = append(out.Files, txtar.File{Name: sketched, Data: got})
				if err := os.WriteFile(path, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What the file offers as a deployment is no comment for long: a push must not end it.
func TestDeployment(t *testing.T) {
	head, deploy, ok := strings.Cut(string(File(fstest.MapFS{"go.mod": {Data: []byte("module a\n")}, "Cargo.toml": {Data: []byte("[package]\n")}})), "  # deploy:\n")
	if !ok {
		t.Fatal("there is no deployment")
	}
	f, err := pipeline.Read("narwhal.yml", []byte(head+"  deploy:\n"+strings.ReplaceAll(deploy, "  # ", "  ")), pipeline.Options{})
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v %v", err, f)
	}
	p, err := f.Plan(pipeline.Facts{Repo: "acme/api", Ref: "refs/heads/main", Branch: "main", Event: "push"})
	if err != nil {
		t.Fatal(err)
	}
	job := p.Jobs[len(p.Jobs)-1]
	if c := job.Concurrency; job.Name != "deploy" || c == nil || c.CancelInProgress || c.PerBuild || c.Group != "acme/api/deploy" || len(job.Needs) != len(p.Jobs)-1 {
		t.Errorf("its group and needs are %+v, %q", c, job.Needs)
	}
}

type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// check sees that a sketch is a file that is read, warns of nothing and plans jobs.
func check(t reporter, file []byte) pipeline.Pipeline {
	t.Helper()
	f, err := pipeline.Read("narwhal.yml", file, pipeline.Options{})
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v %v\n%s", err, f, file)
	}
	p, err := f.Plan(pipeline.Facts{Event: "push", Branch: "main", Repo: "a/b", Ref: "refs/heads/main"})
	if err != nil || len(p.Jobs) == 0 {
		t.Fatalf("%d jobs, %v\n%s", len(p.Jobs), err, file)
	}
	return p
}

// TestAnyRoot sketches for roots with any of the files that are looked at, which
// hold anything.
func TestAnyRoot(t *testing.T) {
	names := []string{
		"go.mod", "go.sum", "package.json", "package-lock.json", "yarn.lock", ".yarnrc.yml", "pnpm-lock.yaml", ".nvmrc",
		"pyproject.toml", "requirements.txt", "uv.lock", "poetry.lock", "setup.py", ".python-version", "pytest.ini",
		"Cargo.toml", "Cargo.lock", "Makefile", "CMakeLists.txt", "meson.build", "configure", "a.sh", "scripts/b.sh", "test/a.bats",
	}
	content := rapid.SampledFrom([]string{
		"", "go 1.26.3\n", "go 999999.1: x\n", "v22\n", "22: [", "3.12.1\n", `{"scripts": {"test": "x", "lint": "y", "build": 1}}`, `{"scripts": []}`,
		"{", "test:\n\tgo\n", "test := 1\n", "check: all\n", "\x00\xff", "pytest\n",
	})
	rapid.Check(t, func(t *rapid.T) {
		root := fstest.MapFS{}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "names") {
			root[name] = &fstest.MapFile{Data: []byte(content.Draw(t, name))}
		}
		check(t, File(root))
	})
}
