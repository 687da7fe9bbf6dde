package narwhal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/codepr/narwhal/"

// mayImport is the architecture: every package of ours, what it owns, and which
// others of ours it may import. Siblings (api agent sched runner cluster) never
// import each other: one that needs another's behaviour declares the methods
// that it uses, and cmd passes it in.
var mayImport = map[string][]string{
	// What is true, and what a narwhal.yml means. Pure.
	"pipeline": {},
	"fsm":      {"pipeline"},
	"replica":  {"fsm"}, // this node's copy of the state, and the road to the log

	// The siblings.
	"cluster": {},                          // gossip + Raft: who is here, who leads, one ordered log
	"sched":   {"fsm", "pipeline", "link"}, // which job runs where
	"runner":  {"fsm", "pipeline", "link", "joblog", "joblog/mask", "executor", "archive", "junit"},
	"agent":   {"fsm", "inbox"},                                           // the forge side: webhooks, RabbitMQ in and out
	"api":     {"fsm", "pipeline", "joblog", "archive", "junit", "inbox"}, // REST, live streams, web pages

	// What the siblings stand on.
	"link":        {"fsm", "pipeline"},                                     // the stream between a node and its leader
	"joblog/mask": {},                                                      // secret values in what is printed
	"joblog":      {"joblog/mask"},                                         // the log of an attempt, as a file
	"supervise":   {"archive", "fsm", "pipeline", "joblog", "joblog/mask"}, // a job's first process: its steps
	"executor":    {"fsm", "pipeline", "link", "joblog", "supervise"},
	"checkout":    {"fsm", "pipeline", "bundle"}, // git, from a bare mirror
	"bundle":      {"fsm", "blob"},               // what `narwhal push` brought
	"blob":        {"fsm"},                       // a node's store of files, named by what is in them
	"bucket":      {"fsm"},                       // blobs where no node's end touches them: S3 and the like
	"copies":      {"fsm", "blob", "joblog"},     // second copies of logs, and their seals
	"heads":       {"fsm"},                       // what was pushed while nobody was told
	"mend":        {"fsm"},                       // copies that were lost, made again
	"inbox":       {"fsm"},                       // the webhooks that came to a node
	"junit":       {"fsm", "joblog/mask"},        // what JUnit XML reports say. Pure
	"snapshot":    {},                            // the file that a cluster is saved in
	"secret":      {},                            // the cipher and the key of what jobs must keep to themselves
	"archive":     {},                            // tar and zstd: what a cache or artifacts are packed in

	"pipeline/sketch": {}, // the first narwhal.yml of a repository

	"api/client": {"fsm", "api", "inbox"}, // the Go client of the REST API
}

// anyImport are the packages that put the others together: the binary, and what
// drives it from outside in tests, demo and benchmarks.
var anyImport = []string{"cmd/", "internal/", "e2e"}

// sources yields the Go files of the module, parsed, tests included.
func sources(t *testing.T, visit func(dir, file string, f *ast.File, fset *token.FileSet)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(filepath.Dir(path)), path, f, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.go") }

func puts(dir string) bool {
	return slices.ContainsFunc(anyImport, func(p string) bool { return strings.HasPrefix(dir, p) }) || dir == "."
}

func TestImports(t *testing.T) {
	used := make(map[string][]string)
	sources(t, func(dir, file string, f *ast.File, _ *token.FileSet) {
		if puts(dir) || isTest(file) {
			return
		}
		used[dir] = append(used[dir], "")
		allowed, known := mayImport[dir]
		if !known {
			t.Errorf("%s: package %s is not in layout_test.go: say what it owns and what it may import", file, dir)
			return
		}
		for _, imp := range f.Imports {
			path, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if ours && !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s, which %s may not (allowed: %s)", file, path, dir, strings.Join(allowed, " "))
			}
			used[dir] = append(used[dir], path)
		}
	})
	for dir, allowed := range mayImport {
		if used[dir] == nil {
			t.Errorf("layout_test.go names package %s, which is not there", dir)
		}
		for _, path := range allowed {
			if !slices.Contains(used[dir], path) {
				t.Errorf("layout_test.go lets %s import %s, which it doesn't: take it out", dir, path)
			}
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	comments := make(map[string][]string)
	sources(t, func(dir, file string, f *ast.File, _ *token.FileSet) {
		if isTest(file) {
			return
		}
		comments[dir] = append(comments[dir], nil...)
		if f.Doc != nil {
			comments[dir] = append(comments[dir], file)
		}
	})
	for _, dir := range slices.Sorted(maps.Keys(comments)) {
		if n := len(comments[dir]); n != 1 {
			t.Errorf("package %s has %d package comments, want 1: %v", dir, n, comments[dir])
		}
	}
}

// pure packages have no clock, randomness, I/O or concurrency.
var impure = []string{"math/rand", "math/rand/v2", "crypto/rand", "os", "os/exec", "net", "net/http", "sync", "context", "log", "log/slog", "path/filepath"}

func TestPurePackages(t *testing.T) {
	sources(t, func(dir, file string, f *ast.File, fset *token.FileSet) {
		if dir != "fsm" && dir != "pipeline" && dir != "junit" || isTest(file) {
			return
		}
		for _, imp := range f.Imports {
			if path := strings.Trim(imp.Path.Value, `"`); slices.Contains(impure, path) {
				t.Errorf("%s imports %s: %s is pure", file, path, dir)
			}
		}
		calls(f, func(pkg, name string, pos token.Pos) {
			if pkg == "time" && (name == "Now" || name == "Since" || name == "Until" || name == "Sleep" || name == "After" || name == "NewTimer") {
				t.Errorf("%s: time.%s: %s is pure, the time comes with the command", fset.Position(pos), name, dir)
			}
		})
	})
}

func TestNoBareGoroutines(t *testing.T) {
	sources(t, func(_, file string, f *ast.File, fset *token.FileSet) {
		if isTest(file) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a bare go statement: use errgroup or WaitGroup.Go, so that somebody waits for it", fset.Position(g.Pos()))
			}
			return true
		})
	})
}

func TestNoInitNoBackground(t *testing.T) {
	sources(t, func(dir, file string, f *ast.File, fset *token.FileSet) {
		if isTest(file) {
			return
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: an init function: constructors say what they need", fset.Position(fn.Pos()))
			}
		}
		if puts(dir) {
			return
		}
		calls(f, func(pkg, name string, pos token.Pos) {
			switch {
			case pkg == "context" && (name == "Background" || name == "TODO"):
				t.Errorf("%s: context.%s outside cmd and tests: take the caller's", fset.Position(pos), name)
			case pkg == "os" && (name == "Getenv" || name == "LookupEnv"):
				t.Errorf("%s: os.%s outside cmd: configuration comes in Config", fset.Position(pos), name)
			}
		})
	})
}

func TestPackageNames(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "shared", "base", "types", "models", "structs", "manager", "service"}
	sources(t, func(dir, file string, f *ast.File, _ *token.FileSet) {
		if slices.Contains(banned, strings.TrimSuffix(f.Name.Name, "_test")) {
			t.Errorf("%s: package %s names nothing", file, f.Name.Name)
		}
	})
}

func calls(f *ast.File, visit func(pkg, name string, pos token.Pos)) {
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok {
			visit(id.Name, sel.Sel.Name, sel.Pos())
		}
		return true
	})
}

// TestPins holds the versions that build and run together: raft 1.8.0 and
// memberlist 0.7.0 want a go-metrics that raft-boltdb and raft-wal don't compile
// with. Raising one means raising all, and running everything.
func TestPins(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{
		"github.com/hashicorp/raft v1.7.3", "github.com/hashicorp/memberlist v0.6.0", "github.com/hashicorp/go-metrics v0.6.1",
	} {
		if !slices.ContainsFunc(strings.Split(string(mod), "\n"), func(line string) bool {
			line, _, _ = strings.Cut(line, "//")
			return strings.TrimSpace(line) == pin
		}) {
			t.Errorf("go.mod does not require %s", pin)
		}
	}
}

// TestDependenciesAreExplained finds each module that is required directly in
// docs/dependencies.md.
func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows.WriteString(cells[1] + "\n")
		}
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasPrefix(line, "\t") {
			continue
		}
		name := regexp.MustCompile(`^github\.com/|/v\d+$`).ReplaceAllString(fields[0], "")
		short := strings.TrimPrefix(name, "golang.org/")
		if !strings.Contains(rows.String(), name) && !strings.Contains(rows.String(), short) {
			t.Errorf("docs/dependencies.md has no line for %s", fields[0])
		}
	}
}
