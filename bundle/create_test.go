package bundle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/bundle"
)

// git runs git as the test's own person, without anyone's settings.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// checkoutAt makes a checkout with one commit of a, b, dir/c and a .gitignore.
func checkoutAt(t *testing.T, dir string) string {
	t.Helper()
	git(t, ".", "init", "--quiet", "--template=", "--initial-branch=main", dir)
	git(t, dir, "config", "user.name", "Ann")
	git(t, dir, "config", "user.email", "ann@example.org")
	for path, text := range map[string]string{"a": "a", "b": "b", "dir/c": "c", ".gitignore": "*.log\n"} {
		write(t, dir, path, text)
	}
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--message", "first\n\nbody")
	return dir
}

func checkout(t *testing.T) string { return checkoutAt(t, filepath.Join(t.TempDir(), "api")) }

func write(t *testing.T, dir, path, text string) {
	t.Helper()
	full := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// everything is what lies in dir: each path's mode and the sum of its bytes.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// create makes a bundle and checks that nothing changed under the folders.
func create(t *testing.T, dir, rev string, untouched ...string) bundle.Created {
	t.Helper()
	var before []map[string]string
	for _, u := range untouched {
		before = append(before, everything(t, u))
	}
	made, err := bundle.Create(context.Background(), dir, rev, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range untouched {
		if after := everything(t, u); !maps.Equal(before[i], after) {
			for path := range after {
				if before[i][path] != after[path] {
					t.Errorf("Create changed %s", path)
				}
			}
			t.Errorf("Create changed %s", u)
		}
	}
	if info, err := os.Stat(made.Path); err != nil || info.Size() != made.Size || made.Size == 0 {
		t.Errorf("%s is said to have %d bytes (%v)", made.Path, made.Size, err)
	}
	return made
}

// unpack gives the files of the bundle's commit: "path text", sorted.
func unpack(t *testing.T, made bundle.Created) (files []string) {
	t.Helper()
	f, err := os.Open(made.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header, _, err := bundle.ReadHeader(f)
	if err != nil || len(header.Needs) > 0 || len(header.Refs) != 1 || !slices.Contains(slices.Collect(maps.Values(header.Refs)), made.SHA) {
		t.Errorf("header is %+v (%v), want the one commit %s and no needs", header, err, made.SHA)
	}
	dir := t.TempDir()
	git(t, dir, "init", "--quiet", "--bare", "--template=", "--object-format="+header.Hash)
	git(t, dir, "-c", "fetch.fsckObjects=true", "fetch", "--quiet", made.Path, "refs/heads/push:refs/heads/x")
	for _, line := range strings.Split(git(t, dir, "-c", "core.quotePath=false", "ls-tree", "-r", "--format=%(objectname) %(path)", made.SHA), "\n") {
		if oid, path, found := strings.Cut(line, " "); found {
			files = append(files, path+" "+git(t, dir, "cat-file", "blob", oid))
		}
	}
	return files
}

func want(t *testing.T, made bundle.Created, files ...string) {
	t.Helper()
	if got := unpack(t, made); !slices.Equal(got, files) {
		t.Errorf("the bundle has\n%q, want\n%q", got, files)
	}
}

var clean = []string{".gitignore *.log", "a a", "b b", "dir/c c"}

func TestCreateClean(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	git(t, dir, "remote", "add", "origin", "git@example.org:acme/api.git")
	write(t, dir, "x.log", "ignored")
	made := create(t, dir, "", dir)
	if made.SHA != git(t, dir, "rev-parse", "HEAD") || made.Dirty || made.Ref != "refs/heads/main" ||
		made.Message != "first" || made.Author != "Ann" || made.Repo != "acme/api" {
		t.Errorf("got %+v", made)
	}
	want(t, made, clean...)
}

func TestCreateRev(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	first := git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "tag", "-a", "-m", "r", "v1")
	write(t, dir, "a", "second")
	git(t, dir, "commit", "--quiet", "--all", "--message", "second")
	write(t, dir, "a", "dirty")
	for _, rev := range []string{"HEAD~1", "v1", first[:10]} {
		made := create(t, dir, rev, dir)
		if made.SHA != first || made.Dirty || made.Message != "first" {
			t.Errorf("%s: got %+v", rev, made)
		}
		want(t, made, clean...)
	}
	for _, rev := range []string{"nothing", "HEAD:a", "--all", "--output=x", "-h"} {
		if made, err := bundle.Create(context.Background(), dir, rev, t.TempDir()); err == nil || !strings.Contains(err.Error(), "names no commit") {
			t.Errorf("%s: got %+v, %v", rev, made, err)
		}
	}
}

func TestCreateDirty(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	head := git(t, dir, "rev-parse", "HEAD")
	write(t, dir, "a", "staged")
	git(t, dir, "add", "a")
	write(t, dir, "a", "as it lies") // differs from what is staged
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "dir/deep/new", "new")
	write(t, dir, "dir/ümlaut x", "u")
	write(t, dir, "x.log", "ignored")
	write(t, dir, "gone", "staged, then deleted")
	git(t, dir, "add", "gone")
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	status := git(t, dir, "status", "--porcelain")
	made := create(t, filepath.Join(dir, "dir"), "", dir) // from a folder inside: all of it counts
	if !made.Dirty || made.SHA == head || made.Ref != "refs/heads/main" || made.Author != "Ann" || made.Message != "uncommitted changes" {
		t.Errorf("got %+v", made)
	}
	want(t, made, ".gitignore *.log", "a as it lies", "dir/c c", "dir/deep/new new", "dir/ümlaut x u")
	if got := git(t, dir, "status", "--porcelain"); got != status {
		t.Errorf("status was\n%s\nand is\n%s", status, got)
	}
}

// A change right after `git add`, of the same length, within the clock's tick.
func TestCreateSeesARacyChange(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	git(t, dir, "config", "core.trustctime", "false")
	git(t, dir, "config", "core.checkStat", "minimal")
	tick := time.Unix(1700000000, 0)
	set := func(path string) {
		if err := os.Chtimes(filepath.Join(dir, path), tick, tick); err != nil {
			t.Fatal(err)
		}
	}
	set("a")
	git(t, dir, "update-index", "--refresh")
	write(t, dir, "a", "A")
	set("a")
	set(".git/index")
	made := create(t, dir, "", dir)
	if !made.Dirty {
		t.Error("the change was overlooked")
	}
	want(t, made, ".gitignore *.log", "a A", "b b", "dir/c c")
}

func TestCreateUnborn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "fresh")
	git(t, ".", "init", "--quiet", "--template=", "--initial-branch=trunk", dir)
	write(t, dir, "a", "a")
	made := create(t, dir, "", dir)
	if !made.Dirty || made.Ref != "refs/heads/trunk" || made.Repo != "fresh" {
		t.Errorf("got %+v", made)
	}
	want(t, made, "a a")
}

func TestCreateDetachedAndSHA256(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "api")
	git(t, ".", "init", "--quiet", "--template=", "--initial-branch=main", "--object-format=sha256", dir)
	checkoutAt(t, dir)
	git(t, dir, "checkout", "--quiet", "--detach")
	made := create(t, dir, "", dir)
	if made.Ref != bundle.Detached || len(made.SHA) != 64 || made.Dirty {
		t.Errorf("got %+v", made)
	}
	want(t, made, clean...)
}

func TestCreateWorktree(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	tree := filepath.Join(t.TempDir(), "tree")
	git(t, dir, "worktree", "add", "--quiet", "-b", "topic", tree)
	write(t, tree, "b", "topic")
	write(t, dir, "a", "not this one")
	made := create(t, tree, "", dir, tree)
	if !made.Dirty || made.Ref != "refs/heads/topic" {
		t.Errorf("got %+v", made)
	}
	want(t, made, ".gitignore *.log", "a a", "b topic", "dir/c c")
}

func TestCreateFromAPathWithColons(t *testing.T) {
	t.Parallel()
	dir := checkoutAt(t, filepath.Join(t.TempDir(), `a:b "c" \d`))
	write(t, dir, "a", "A")
	want(t, create(t, dir, "", dir), ".gitignore *.log", "a A", "b b", "dir/c c")
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	write(t, dir, "a", "2")
	git(t, dir, "commit", "--quiet", "--all", "--message", "second")
	shallow := filepath.Join(t.TempDir(), "shallow")
	git(t, ".", "clone", "--quiet", "--depth=1", "file://"+dir, shallow)
	if _, err := bundle.Create(context.Background(), shallow, "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "git fetch --unshallow") {
		t.Errorf("a shallow clone: %v", err)
	}
	if _, err := bundle.Create(context.Background(), t.TempDir(), "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no git checkout") {
		t.Errorf("no checkout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := bundle.Create(ctx, dir, "", t.TempDir()); err == nil {
		t.Error("canceled: it went on")
	}
}

// In a hook git's variables name a repository, which is not to be written to.
func TestCreateInAHook(t *testing.T) {
	dir, other := checkout(t), checkout(t)
	write(t, dir, "a", "A")
	t.Setenv("GIT_DIR", filepath.Join(other, ".git"))
	t.Setenv("GIT_WORK_TREE", other)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(other, ".git/index"))
	t.Setenv("GIT_OBJECT_DIRECTORY", filepath.Join(other, ".git/objects"))
	before := everything(t, other)
	made, err := bundle.Create(context.Background(), dir, "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if after := everything(t, other); !maps.Equal(before, after) {
		t.Error("Create wrote into the repository of the hook")
	}
	for _, name := range []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"} {
		if err := os.Unsetenv(name); err != nil { // t.Setenv brings it back to what it was
			t.Fatal(err)
		}
	}
	want(t, made, ".gitignore *.log", "a A", "b b", "dir/c c")
}
