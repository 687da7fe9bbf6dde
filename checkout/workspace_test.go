package checkout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

// in runs git in a workspace as a job's step would.
func in(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return gitIn(t, dir, nil, append([]string{"-c", "safe.directory=*"}, args...)...)
}

func sortedLines(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

func TestWorkspaceIsAClone(t *testing.T) {
	t.Parallel()
	for _, hash := range []string{"sha1", "sha256"} {
		t.Run(hash, func(t *testing.T) {
			t.Parallel()
			o := originAt(t, t.TempDir(), "acme/api.git", hash)
			first := o.commit("refs/heads/main", files{"a": "1", "dir/b": "2", "link": "-> dir/b"})
			topic := o.commit("refs/heads/topic/x", files{"a": "topic"}, first)
			last := o.commit("refs/heads/main", files{"a": "3", "dir/b": "2", "link": "-> dir/b"}, first)
			o.commit("refs/pull/9/head", files{"a": "pull"})
			o.git("tag", "-a", "-m", "release", "v1.0", first)
			o.git("tag", "light", topic)
			s := open(t)
			dir := work(t, s, o.at(last, "refs/heads/main"), noClone)
			clone := filepath.Join(t.TempDir(), "clone")
			gitIn(t, o.dir, nil, "clone", "--quiet", "file://"+o.dir, clone)

			if got := in(t, dir, "status", "--porcelain", "--ignored"); got != "" {
				t.Errorf("git status: %s", got)
			}
			in(t, dir, "fsck", "--strict")
			for _, args := range [][]string{
				{"log", "--format=%H"}, {"describe", "--tags"}, {"ls-files", "--stage"}, {"remote", "-v"}, {"config", "remote.origin.fetch"},
				{"rev-parse", "HEAD", "--is-shallow-repository"},
			} {
				if got, want := in(t, dir, args...), in(t, clone, args...); got != want {
					t.Errorf("git %v: got %q, a clone has %q", args, got, want)
				}
			}
			format := "--format=%(objectname) %(refname)"
			got := sortedLines(in(t, dir, "for-each-ref", format, "refs/remotes/", "refs/tags/"))
			want := slices.DeleteFunc(sortedLines(in(t, clone, "for-each-ref", format, "refs/remotes/", "refs/tags/")),
				func(s string) bool { return strings.HasSuffix(s, "origin/HEAD") })
			if !slices.Equal(got, want) {
				t.Errorf("refs: got %v, a clone has %v", got, want)
			}
			if got := in(t, dir, "for-each-ref", "refs/heads/"); got != "" {
				t.Errorf("local branches: %s", got)
			}
			if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "dir/b" || read(t, dir+"/a") != "3" {
				t.Errorf("link is %q (%v)", target, err)
			}

			// A step can work as it is used to.
			in(t, dir, "checkout", "--quiet", "-b", "release", "origin/topic/x")
			in(t, dir, "-c", "protocol.file.allow=always", "fetch", "--quiet", "origin")
			if got := read(t, dir+"/a"); got != "topic" {
				t.Errorf("after a checkout a is %q", got)
			}
		})
	}
}

func TestWorkspaceOfAMovedBranch(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	old := o.commit("refs/heads/main", files{"a": "old"})
	other := o.commit("refs/heads/other", files{"a": "other"})
	s := open(t)
	ensure(t, s, o.at(old, "refs/heads/main"))
	o.git("update-ref", "-d", "refs/heads/main")
	below := o.commit("refs/heads/main/below", files{"a": "new"}) // it has a name's folder for it
	dir := work(t, s, o.at(below, "refs/heads/main/below"), noClone)
	if got := read(t, dir+"/a"); got != "new" {
		t.Errorf("a is %q", got)
	}
	dir = work(t, s, o.at(old, "refs/heads/main"), noClone)
	if got := read(t, dir+"/a"); got != "old" {
		t.Errorf("a is %q, want the commit's and not the branch's", got)
	}
	got := sortedLines(in(t, dir, "for-each-ref", "--format=%(refname) %(objectname)"))
	want := []string{"refs/remotes/origin/main " + old, "refs/remotes/origin/other " + other}
	if !slices.Equal(got, want) {
		t.Errorf("refs are %v, want %v", got, want)
	}
}

// shallowClone is what git makes of the same commit and depth.
func shallowClone(t *testing.T, o *origin, branch string, depth int) string {
	dir := filepath.Join(t.TempDir(), "clone")
	gitIn(t, o.dir, nil, "clone", "--quiet", fmt.Sprintf("--depth=%d", depth), "--branch="+branch, "file://"+o.dir, dir)
	return dir
}

// edge lists the commits of .git/shallow, but for the root: git may name it,
// though nothing is left out there.
func edge(t *testing.T, dir, root string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, ".git/shallow"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Sorted(slices.Values(strings.Fields(string(data)))), func(sha string) bool { return sha == root })
}

func TestDepth(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	last := o.chain("refs/heads/main", 6)
	// side leaves from the second commit of six and comes back by a merge, so
	// that the same commits are near by one road and far by the other.
	side := o.commit("refs/heads/side", files{"n": "s"}, last+"~4")
	side = o.commit("refs/heads/side", files{"n": "t"}, side)
	merge := o.commit("refs/heads/merged", files{"n": "m"}, last, side)
	top := o.commit("refs/heads/merged", files{"n": "u"}, merge, last+"~1")
	o.git("tag", "-a", "-m", "r", "v1", last)
	root := o.git("rev-parse", last+"~5")
	s := open(t)
	for _, c := range []struct {
		branch, sha string
		depths      []int
	}{{"main", last, []int{1, 6}}, {"merged", top, []int{2, 3}}} {
		for _, depth := range c.depths {
			dir := work(t, s, o.at(c.sha, "refs/heads/"+c.branch), pipeline.Clone{Depth: depth})
			clone := shallowClone(t, o, c.branch, depth)
			if got, want := sortedLines(in(t, dir, "log", "--format=%H %P")), sortedLines(in(t, clone, "log", "--format=%H %P")); !slices.Equal(got, want) {
				t.Errorf("%s, depth %d: history is\n%v, of a clone\n%v", c.branch, depth, got, want)
			}
			if c.branch == "main" && in(t, dir, "rev-list", "--count", "HEAD") != fmt.Sprint(depth) {
				t.Errorf("depth %d shows another number of commits", depth)
			}
			if got, want := edge(t, dir, root), edge(t, clone, root); !slices.Equal(got, want) {
				t.Errorf("%s, depth %d: shallow is %v, of a clone %v", c.branch, depth, got, want)
			}
			if (len(edge(t, dir, root)) > 0) != exists(filepath.Join(dir, ".git/shallow")) {
				t.Errorf("%s, depth %d: an empty file says that it is shallow", c.branch, depth)
			}
			if got, want := in(t, dir, "for-each-ref", "--format=%(refname)"), "refs/remotes/origin/"+c.branch; got != want {
				t.Errorf("refs are %s, want only %s", got, want)
			}
		}
	}
	tagged := work(t, s, o.at(last, "refs/tags/v1"), pipeline.Clone{Depth: 1})
	if got := in(t, tagged, "describe", "--exact-match"); got != "v1" {
		t.Errorf("a tag's own build is of %q", got)
	}
}

func TestSkipAndLFS(t *testing.T) {
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	dir := work(t, s, c, pipeline.Clone{Skip: true, Depth: 1, Submodules: true})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("clone.skip left %v (%v)", entries, err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := s.Checkout(context.Background(), c, pipeline.Clone{LFS: true}, t.TempDir()); !errors.Is(err, ErrNoLFS) {
		t.Errorf("without git-lfs: want ErrNoLFS, got %v", err)
	}
}

func TestCheckoutThatFails(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	ensure(t, s, c)
	for name, clone := range map[string]pipeline.Clone{"all": noClone, "depth": {Depth: 2}} {
		missing := o.at(strings.Repeat("ab", 20), "refs/heads/main")
		if err := s.Checkout(context.Background(), missing, clone, t.TempDir()); err == nil || errors.Is(err, ErrTransport) {
			t.Errorf("%s: a commit that is not here: %v", name, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Checkout(ctx, c, clone, t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: want canceled, got %v", name, err)
		}
	}
	if err := s.Checkout(context.Background(), c, noClone, filepath.Join(t.TempDir(), "no", "such", "\x00")); err == nil {
		t.Error("a folder that can't be")
	}
}

// Attributes that need no program of anyone's still hold.
func TestAttributes(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{".gitattributes": "*.bat text eol=crlf\n*.bin filter=lfs\n", "x.bat": "a\nb\n", "y.bin": "version https://git-lfs\n"})
	dir := work(t, open(t), o.at(sha, "refs/heads/main"), noClone)
	if got := read(t, dir+"/x.bat"); got != "a\r\nb\r\n" {
		t.Errorf("x.bat is %q", got)
	}
	if got := read(t, dir+"/y.bin"); got != "version https://git-lfs\n" {
		t.Errorf("y.bin is %q, want the pointer as it is", got)
	}
}
