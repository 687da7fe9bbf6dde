package checkout

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plainTrees makes trees of folders and files from names that sort in surprising ways.
var plainTrees = rapid.Custom(func(t *rapid.T) files {
	name := rapid.SampledFrom([]string{"a", "b", "a.b", "a-b", "a0", "B", ".github", ".gitignore", "A_1", "x+y", "README.md"})
	content := rapid.SampledFrom([]string{"", "text\n", "#!/bin/sh\n", strings.Repeat("long\r\n", 5000), "\x00\xff"})
	all := files{}
	for range rapid.IntRange(4, 16).Draw(t, "files") {
		path := strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "path"), "/")
		if !clashes(all, path) {
			all[path] = content.Draw(t, "content")
		}
	}
	return all
})

// clashes reports whether a name would be a file and a folder.
func clashes(all files, path string) bool {
	for p := range all {
		if strings.HasPrefix(p, path+"/") || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// TestPlainWorkspace compares what is written from here with what git would write.
func TestPlainWorkspace(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	for seed := range 12 {
		all := plainTrees.Example(seed)
		c := o.at(o.commit("refs/heads/main", all), "refs/heads/main")
		dir := work(t, s, c, noClone)
		if _, plain, err := mirrorOf(t, s, c).plainTree(t.Context(), c.SHA); !plain || err != nil {
			t.Fatalf("tree %v is not plain: %v", all, err)
		}
		// diff-files goes by what the index remembers, without looking again.
		if got := in(t, dir, "diff-files") + in(t, dir, "status", "--porcelain", "--ignored"); got != "" {
			t.Errorf("git status: %s", got)
		}
		if got, want := in(t, dir, "ls-files", "--stage"), stage(in(t, dir, "ls-tree", "-r", "HEAD")); got != want {
			t.Errorf("index:\n%s\nwant:\n%s", got, want)
		}
		for path, content := range all {
			if got := read(t, filepath.Join(dir, path)); got != content {
				t.Errorf("%s is %q, want %q", path, got, content)
			}
		}
	}
}

// stage brings the lines of ls-tree, "mode blob oid\tpath", to the form of ls-files
// --stage.
func stage(listing string) string {
	lines := strings.Split(listing, "\n")
	for i, line := range lines {
		meta, path, _ := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		lines[i] = f[0] + " " + f[2] + " 0\t" + path
	}
	return strings.Join(lines, "\n")
}

func TestModesOfAPlainTree(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	run, text := plant(t, o.dir, "blob", "#!/bin/sh\n"), plant(t, o.dir, "blob", "text\n")
	sha := plantCommit(t, o.dir, entry("100755", "run", run), entry("100644", "text", text))
	o.git("update-ref", "refs/heads/main", sha)
	s := open(t)
	dir := work(t, s, o.at(sha, "refs/heads/main"), noClone)
	for name, want := range map[string]os.FileMode{"run": 0o755, "text": 0o644} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if got := in(t, dir, "status", "--porcelain"); got != "" {
		t.Errorf("git status: %s", got)
	}
}

// TestNotPlain has trees that need git's judgement, each with what git makes of it.
func TestNotPlain(t *testing.T) {
	t.Parallel()
	many, big := files{}, strings.Repeat("x", plainBytes+1)
	for i := range plainFiles + 1 {
		many[fmt.Sprintf("d%d/f%d", i%7, i)] = "x"
	}
	for name, tree := range map[string]files{
		"attributes":         {".gitattributes": "*.txt text eol=crlf\n", "a.txt": "one\ntwo\n"},
		"attributes below":   {"d/.gitattributes": "*.txt text eol=crlf\n", "d/a.txt": "one\ntwo\n"},
		"attributes folded":  {".GitAttributes": "*.txt text eol=crlf\n", "d/a.txt": "one\n"},
		"symbolic link":      {"a": "1", "link": "-> a"},
		"space":              {"a b": "1"},
		"not ASCII":          {"ä": "1"},
		"backslash":          {`a\b`: "1"},
		"too many files":     many,
		"too large together": {"a": big[:plainBytes/2], "b": big[plainBytes/2:]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			s := open(t)
			c := o.at(o.commit("refs/heads/main", tree), "refs/heads/main")
			ensure(t, s, c)
			if _, plain, err := mirrorOf(t, s, c).plainTree(t.Context(), c.SHA); plain || err != nil {
				t.Fatalf("plain: %v, %v", plain, err)
			}
			dir := work(t, s, c, noClone)
			if got := in(t, dir, "status", "--porcelain"); got != "" {
				t.Errorf("git status: %s", got)
			}
			if strings.HasPrefix(name, "attributes") && !strings.Contains(name, "folded") {
				want := "one\r\n"
				path := "a.txt"
				if name == "attributes below" {
					path = "d/a.txt"
				}
				if got := read(t, filepath.Join(dir, path)); !strings.HasPrefix(got, want) {
					t.Errorf("%s is %q, want it to begin with %q", path, got, want)
				}
			}
		})
	}
}

func TestIsPlain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, ".github": true, ".gitignore": true, ".gitmodules": true, "a.b-c_d+e@f=g,h": true, "..a": true,
		"": false, ".": false, "..": false, "a.": false, ".git": false, ".GIT": false, ".gIt": false, ".git.": false, ".git ": false,
		"git~1": false, ".git::$INDEX_ALLOCATION": false, ".gitattributes": false, ".GitAttributes": false, "a/b": false,
		`a\b`: false, "a:b": false, "a b": false, "\u200c.git": false, ".g\u200cit": false, "a\nb": false, "-rf": true,
	} {
		if got := isPlain(name); got != want {
			t.Errorf("%q: plain %v", name, got)
		}
	}
}

// TestCanceledPlainCheckout ends before it has written anything.
func TestCanceledPlainCheckout(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	c := o.at(o.commit("refs/heads/main", files{"a": "1"}), "refs/heads/main")
	ensure(t, s, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Checkout(ctx, c, noClone, t.TempDir()); err != context.Canceled { //nolint:errorlint // that and nothing around it
		t.Errorf("checkout: %v", err)
	}
}
