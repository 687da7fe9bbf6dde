package checkout

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// origin is a repository on a server: tests push to it by writing into it.
type origin struct {
	t    testing.TB
	dir  string
	name string
	hash string
}

// files of a commit: path to text. A text "-> x" is a symbolic link to x, and
// "=> sha" a submodule at sha.
type files map[string]string

// gitIn runs git as the test's own person, without anyone's settings.
func gitIn(t testing.TB, dir string, stdin io.Reader, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryGit(dir string, stdin io.Reader, args ...string) (string, error) {
	return tryGitWith(append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org"),
		dir, stdin, args...)
}

func tryGitWith(env []string, dir string, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, stdin, env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func newOrigin(t testing.TB) *origin { return originAt(t, t.TempDir(), "acme/api.git", "sha1") }

// originAt makes root/name, a bare repository.
func originAt(t testing.TB, root, name, hash string) *origin {
	t.Helper()
	dir := filepath.Join(root, name)
	gitIn(t, root, nil, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--object-format="+hash, dir)
	return &origin{t: t, dir: dir, name: name, hash: hash}
}

func (o *origin) git(args ...string) string {
	o.t.Helper()
	return gitIn(o.t, o.dir, nil, args...)
}

// commit puts a commit with these files and parents on ref, which may have been
// anywhere, and gives its SHA.
func (o *origin) commit(ref string, all files, parents ...string) string {
	o.t.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "reset %s\ncommit %s\nmark :1\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nm", ref, ref)
	for i, p := range parents {
		fmt.Fprintf(&s, "\n%s %s", []string{"from", "merge"}[min(i, 1)], p)
	}
	s.WriteString("\ndeleteall\n")
	for _, path := range slices.Sorted(maps.Keys(all)) {
		text := all[path]
		if sha, found := strings.CutPrefix(text, "=> "); found {
			fmt.Fprintf(&s, "M 160000 %s %s\n", sha, path)
			continue
		}
		mode := "100644"
		if target, found := strings.CutPrefix(text, "-> "); found {
			mode, text = "120000", target
		}
		fmt.Fprintf(&s, "M %s inline %s\ndata %d\n%s\n", mode, path, len(text), text)
	}
	s.WriteString("\nget-mark :1\n")
	return gitIn(o.t, o.dir, strings.NewReader(s.String()), "fast-import", "--quiet", "--force", "--date-format=raw")
}

// chain puts n commits on ref, one on top of the other, and gives the last.
func (o *origin) chain(ref string, n int) string {
	o.t.Helper()
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "commit %s\nmark :%d\ncommitter A <a@example.org> %d +0000\ndata 1\nm\nM 100644 inline n\ndata 4\n%04d\n", ref, i+1, 1700000000+i, i)
	}
	fmt.Fprintf(&s, "get-mark :%d\n", n)
	return gitIn(o.t, o.dir, strings.NewReader(s.String()), "fast-import", "--quiet", "--force", "--date-format=raw")
}

// plant writes an object that git's own commands would refuse to make.
func plant(t testing.TB, repo, kind, content string) string {
	t.Helper()
	return gitIn(t, repo, strings.NewReader(content), "hash-object", "-t", kind, "-w", "--literally", "--stdin")
}

// entry is one of a tree's, in git's own form.
func entry(mode, name, oid string) string {
	raw := make([]byte, len(oid)/2)
	if _, err := fmt.Sscanf(oid, "%x", &raw); err != nil {
		panic(err)
	}
	return mode + " " + name + "\x00" + string(raw)
}

// plantCommit gives a commit of a tree that is made of raw entries.
func plantCommit(t testing.TB, repo string, entries ...string) string {
	t.Helper()
	tree := plant(t, repo, "tree", strings.Join(entries, ""))
	return plant(t, repo, "commit", "tree "+tree+"\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nm\n")
}

// at is the commit as an event would tell of it.
func (o *origin) at(sha, ref string) fsm.Commit {
	return fsm.Commit{Repo: strings.TrimSuffix(o.name, ".git"), CloneURL: "file://" + o.dir, SHA: sha, Ref: ref}
}

// open opens mirrors over the file protocol, unless change says otherwise.
func open(t testing.TB, change ...func(*Config)) *Mirrors {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "mirrors"), Protocols: []string{"file", "http"}, Timeout: time.Minute}
	for _, f := range change {
		f(&cfg)
	}
	s, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ensure(t testing.TB, s *Mirrors, c fsm.Commit) {
	t.Helper()
	if err := s.Ensure(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// work ensures the commit and gives a workspace of it.
func work(t testing.TB, s *Mirrors, c fsm.Commit, clone pipeline.Clone) string {
	t.Helper()
	ensure(t, s, c)
	dir := t.TempDir()
	if err := s.Checkout(context.Background(), c, clone, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mirrorOf(t testing.TB, s *Mirrors, c fsm.Commit) *mirror {
	t.Helper()
	m, err := s.of(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// serve serves the repositories under root by smart HTTP, behind the filter.
func serve(t testing.TB, root string, filter func(w http.ResponseWriter, r *http.Request, next http.Handler)) *httptest.Server {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filter == nil {
			backend.ServeHTTP(w, r)
			return
		}
		filter(w, r, backend)
	}))
	t.Cleanup(server.Close)
	return server
}

// until waits for what another goroutine is on its way to.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

var noClone pipeline.Clone // the default: all of history, nothing else
