package checkout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// traps lays out everything by which someone's settings can make git run a
// command, each with a canary of its own, and gives the environment that leads
// git to them.
func traps(t *testing.T) (env []string, canaries string) {
	t.Helper()
	home, canaries := t.TempDir(), t.TempDir()
	script := func(name string) string {
		path := filepath.Join(home, "bin", name)
		write(t, path, "#!/bin/sh\ntouch "+filepath.Join(canaries, name)+"\ncat\n", 0o755)
		return path
	}
	for _, hook := range []string{"post-checkout", "reference-transaction", "post-index-change", "post-update"} {
		for _, dir := range []string{"hooks", "template/hooks"} {
			write(t, filepath.Join(home, dir, hook), "#!/bin/sh\ntouch "+filepath.Join(canaries, filepath.Base(filepath.Dir(filepath.Join(home, dir)))+"-"+hook)+"\n", 0o755)
		}
	}
	write(t, filepath.Join(home, "attributes"), "* filter=evil\n", 0o644)
	config := "[filter \"evil\"]\n\tsmudge = " + script("smudge") + "\n\tclean = " + script("clean") +
		"\n[core]\n\tfsmonitor = " + script("fsmonitor") + "\n\thooksPath = " + home + "/hooks\n\tattributesFile = " + home + "/attributes" +
		"\n\taskPass = " + script("askpass") + "\n\tsshCommand = " + script("ssh") +
		"\n[init]\n\ttemplateDir = " + home + "/template\n[credential]\n\thelper = !" + script("helper") + "\n"
	write(t, filepath.Join(home, ".gitconfig"), config, 0o644)
	write(t, filepath.Join(home, "git", "config"), config, 0o644)
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "GIT_TEMPLATE_DIR=" + home + "/template",
		"GIT_ASKPASS=" + script("askpass-env"), "GIT_CONFIG_GLOBAL=" + home + "/.gitconfig", "GIT_CONFIG_SYSTEM=" + home + "/.gitconfig"}, canaries
}

// hostileFiles are files that mean something to git where they don't belong.
var hostileFiles = files{
	".gitattributes": "* filter=evil diff=evil merge=evil\n",
	".gitconfig":     "[core]\n\tfsmonitor = touch canary\n",
	".lfsconfig":     "[lfs]\n\turl = https://evil.example/\n",
	"config":         "[core]\n\tfsmonitor = touch canary\n", "HEAD": "ref: refs/heads/main\n", "objects/x": "", "refs/x": "", // a bare repository
	"hooks/post-checkout": "#!/bin/sh\ntouch canary\n",
	"src/main.go":         "package main\n",
}

func TestNothingOfARepositoryRuns(t *testing.T) {
	t.Parallel()
	env, canaries := traps(t)
	root := t.TempDir()
	lib := originAt(t, root, "lib.git", "sha1")
	libSHA := lib.commit("refs/heads/main", hostileFiles)
	o := originAt(t, root, "api.git", "sha1")
	tree := files{".gitmodules": "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n", "lib": "=> " + libSHA}
	for path, text := range hostileFiles {
		tree[path] = text
	}
	sha := o.commit("refs/heads/main", tree)

	// The traps work: who isn't careful falls into them.
	control := filepath.Join(t.TempDir(), "clone")
	if _, err := tryGitWith(env, root, nil, "clone", "--quiet", o.dir, control); err != nil {
		t.Fatal(err)
	}
	sprung, err := os.ReadDir(canaries)
	if err != nil || len(sprung) < 2 {
		t.Fatalf("a careless clone sprang only %v (%v): this test shows nothing", sprung, err)
	}
	for _, e := range sprung {
		if err := os.Remove(filepath.Join(canaries, e.Name())); err != nil {
			t.Fatal(err)
		}
	}

	s := open(t, func(c *Config) { c.Env = env })
	dir := work(t, s, o.at(sha, "refs/heads/main"), pipeline.Clone{Submodules: true})
	if sprung, err := os.ReadDir(canaries); err != nil || len(sprung) > 0 {
		t.Errorf("these ran: %v (%v)", sprung, err)
	}
	for path, text := range hostileFiles {
		for _, base := range []string{dir, filepath.Join(dir, "lib")} {
			if got := read(t, filepath.Join(base, path)); got != text {
				t.Errorf("%s/%s is %q, want %q", base, path, got, text)
			}
		}
	}
	for _, base := range []string{dir + "/.git", dir + "/.git/modules/lib", mirrorOf(t, s, o.at(sha, "")).dir} {
		if exists(base + "/hooks") {
			t.Errorf("%s has hooks", base)
		}
	}
}

func TestDotGitInATree(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	base := o.commit("refs/heads/good", files{"a": "a"})
	s := open(t)
	ensure(t, s, o.at(base, "refs/heads/good"))
	blob := plant(t, o.dir, "blob", "#!/bin/sh\ntouch canary\n")
	hooks := plant(t, o.dir, "tree", entry("100755", "post-checkout", blob))
	git := plant(t, o.dir, "tree", entry("40000", "hooks", hooks))
	bad := map[string]fsm.Commit{}
	for _, name := range []string{".git", ".GIT", "git~1", ".g\u200cit"} { // some file system takes each for .git
		bad[name] = o.at(plantCommit(t, o.dir, entry("40000", name, git)), "refs/pull/1/head")
		if err := s.Ensure(context.Background(), bad[name]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("tree with %q: want ErrCorrupt from the fetch, got %v", name, err)
		}
	}
	lendObjects(t, mirrorOf(t, s, o.at(base, "")), o)
	for name, c := range bad { // were it in the mirror after all, it would not come out
		dir := t.TempDir()
		err := s.Checkout(context.Background(), c, noClone, dir)
		if !errors.Is(err, ErrCorrupt) || exists(filepath.Join(dir, ".git/hooks")) {
			t.Errorf("tree with %q was checked out (%v)", name, err)
		}
	}
}

// lendObjects lets a mirror have what its checks would have kept out.
func lendObjects(t *testing.T, m *mirror, o *origin) {
	t.Helper()
	write(t, filepath.Join(m.dir, "objects/info/alternates"), filepath.Join(o.dir, "objects")+"\n", 0o644)
}

func TestSymlinksLeadNowhere(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	o := newOrigin(t)
	good := o.commit("refs/heads/main", files{"out": "-> " + outside, "up": "-> ../../../../../../etc", "in": "-> dir/f", "dir/f": "f"})
	s := open(t)
	dir := work(t, s, o.at(good, "refs/heads/main"), noClone)
	if target, err := os.Readlink(filepath.Join(dir, "out")); err != nil || target != outside {
		t.Errorf("an honest link became %q (%v)", target, err)
	}

	// A tree in which a name is a link as well as a folder.
	link := plant(t, o.dir, "blob", outside)
	file := plant(t, o.dir, "blob", "owned")
	sub := plant(t, o.dir, "tree", entry("100644", "owned", file))
	sha := plantCommit(t, o.dir, entry("120000", "a", link), entry("40000", "a", sub))
	o.git("update-ref", "refs/heads/evil", sha)
	if err := s.Ensure(context.Background(), o.at(sha, "refs/heads/evil")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("want ErrCorrupt, got %v", err)
	}
	lendObjects(t, mirrorOf(t, s, o.at(sha, "")), o)
	// Whether git takes it is not the point: nothing may come to lie outside.
	err := s.Checkout(context.Background(), o.at(sha, "refs/heads/evil"), noClone, t.TempDir())
	if left, readErr := os.ReadDir(outside); readErr != nil || len(left) > 0 {
		t.Errorf("the checkout (%v) wrote through a link: %v, %v", err, left, readErr)
	}
}

func TestGitmodulesThatAttack(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	for name, text := range map[string]string{
		"name that leaves":  "[submodule \"../../x\"]\n\tpath = lib\n\turl = ../lib.git\n",
		"option for a URL":  "[submodule \"x\"]\n\tpath = lib\n\turl = --upload-pack=touch\n",
		"option for a path": "[submodule \"x\"]\n\tpath = --x\n\turl = ../lib.git\n",
		"command":           "[submodule \"x\"]\n\tpath = lib\n\turl = ../lib.git\n\tupdate = !touch canary\n",
	} {
		sha := o.commit("refs/heads/main", files{".gitmodules": text})
		if err := s.Ensure(context.Background(), o.at(sha, "refs/heads/main")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: want ErrCorrupt, got %v", name, err)
		}
	}
	sha := o.commit("refs/heads/main", files{".gitmodules": "-> /etc/gitconfig"})
	if err := s.Ensure(context.Background(), o.at(sha, "refs/heads/main")); !errors.Is(err, ErrCorrupt) {
		t.Errorf(".gitmodules as a link: want ErrCorrupt, got %v", err)
	}
}

func blemished(t *testing.T, o *origin) (sha string) {
	t.Helper()
	blob := plant(t, o.dir, "blob", "a")
	tree := plant(t, o.dir, "tree", entry("0100644", "a", blob))
	sha = plant(t, o.dir, "commit", "tree "+tree+"\nauthor A <a@b>1700000000 +0000\ncommitter A <a@b> 1700000000 +051800\n\nm\n")
	o.git("update-ref", "refs/heads/main", sha)
	return sha
}

// Old histories have blemishes that harm no one; they still build.
func TestHarmlessBlemishes(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := blemished(t, o)
	dir := work(t, open(t), o.at(sha, "refs/heads/main"), noClone)
	if got := read(t, dir+"/a"); got != "a" {
		t.Errorf("a is %q", got)
	}
}

// What a server says reaches the build's page, where it can't act.
func TestErrorsAreTame(t *testing.T) {
	err := errors.New("exit status 128")
	got := firstLines("remote: \x1b[2Jgone\rx\nb\nc\nd\ne", err)
	if want := "remote: [2Jgonex; b; c; d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := firstLines("", err); got != "exit status 128" {
		t.Errorf("got %q", got)
	}
	long := &excerpt{limit: 10}
	if n, err := long.Write([]byte(strings.Repeat("x", 100))); n != 100 || err != nil || len(long.String()) != 10 {
		t.Errorf("an endless talk: %d, %v, kept %d", n, err, len(long.String()))
	}
}
