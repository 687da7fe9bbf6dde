package checkout

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

func gitmodules(entries ...string) string { // path, url, path, url …
	var b strings.Builder
	for i := 0; i < len(entries); i += 2 {
		fmt.Fprintf(&b, "[submodule \"%s\"]\n\tpath = %s\n\turl = %s\n", entries[i], entries[i], entries[i+1])
	}
	return b.String()
}

var withSubmodules = pipeline.Clone{Submodules: true}

// A private server: what submodules need of the credentials they get, and the
// protocol is the one that people use.
func TestSubmodules(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	server := serve(t, root, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if user, secret, ok := r.BasicAuth(); !ok || user != "bot" || secret != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	inner := originAt(t, root, "inner.git", "sha1")
	innerOld := inner.commit("refs/heads/main", files{"i": "old"})
	inner.commit("refs/heads/main", files{"i": "new"}, innerOld)
	lib := originAt(t, root, "lib.git", "sha1")
	libSHA := lib.commit("refs/heads/main", files{"l": "lib", ".gitmodules": gitmodules("nested", "../inner.git"), "nested": "=> " + innerOld})
	o := originAt(t, root, "api.git", "sha1")
	sha := o.commit("refs/heads/main", files{"a": "1", "vendor/x": "x",
		".gitmodules": gitmodules("vendor/lib", "../lib.git", "absolute", server.URL+"/inner.git", "ghost", "../ghost.git"),
		"vendor/lib":  "=> " + libSHA, "absolute": "=> " + innerOld})
	c := o.at(sha, "refs/heads/main")
	c.CloneURL = server.URL + "/api.git"
	s := open(t, func(cfg *Config) {
		cfg.Credentials = func(string) (string, string, bool) { return "bot", "s3cret", true }
	})
	dir := work(t, s, c, withSubmodules)
	for path, want := range map[string]string{"a": "1", "vendor/x": "x", "vendor/lib/l": "lib", "vendor/lib/nested/i": "old", "absolute/i": "old"} {
		if got := read(t, filepath.Join(dir, path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if got := in(t, dir, "status", "--porcelain"); got != "" {
		t.Errorf("git status: %s", got)
	}
	config := read(t, dir+"/.git/config") + read(t, dir+"/.git/modules/vendor/lib/config")
	if strings.Contains(config, "s3cret") || strings.Contains(config, "Authorization") {
		t.Errorf("the credentials stayed in the workspace:\n%s", config)
	}

	plain := work(t, s, c, noClone)
	if exists(plain + "/vendor/lib/l") {
		t.Error("submodules came unasked")
	}
}

func TestSubmodulesThatAreRefused(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	server := serve(t, root, nil)
	elsewhere := serve(t, root, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		t.Errorf("another host was asked for %s", r.URL)
	})
	lib := originAt(t, root, "lib.git", "sha1")
	libSHA := lib.commit("refs/heads/main", files{"l": "lib"})
	o := originAt(t, root, "api.git", "sha1")
	s := open(t)
	cases := map[string]struct {
		url  string
		want error
	}{
		"another host":     {elsewhere.URL + "/lib.git", ErrForbidden},
		"the file system":  {"file://" + lib.dir, ErrForbidden},
		"credentials":      {"http://user:secret@127.0.0.1/lib.git", ErrInvalid},
		"one that is gone": {server.URL + "/gone.git", ErrNotFound},
	}
	commits := map[string]string{}
	for name, c := range cases {
		ref := "refs/heads/" + strings.ReplaceAll(name, " ", "-")
		commits[name] = o.commit(ref, files{".gitmodules": gitmodules("lib", c.url), "lib": "=> " + libSHA})
	}
	for name, c := range cases {
		commit := o.at(commits[name], "refs/heads/main")
		commit.CloneURL = server.URL + "/api.git"
		ensure(t, s, commit)
		dir := t.TempDir()
		err := s.Checkout(context.Background(), commit, withSubmodules, dir)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: want %v, got %v", name, c.want, err)
		}
		if err != nil && strings.Contains(err.Error(), "user:secret") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
		if exists(dir + "/lib/l") {
			t.Errorf("%s: it was cloned", name)
		}
	}
	text := "[submodule \"x\"]\n\tpath = ../lib\n\turl = ../lib.git\n"
	c := o.at(o.commit("refs/heads/main", files{".gitmodules": text}), "refs/heads/main")
	c.CloneURL = server.URL + "/api.git"
	if dir := work(t, s, c, withSubmodules); exists(filepath.Join(filepath.Dir(dir), "lib")) {
		t.Error("a submodule left the tree")
	}
}

// A path in .gitmodules at which the commit has a link and no submodule: git
// must never run where the link leads, which could be another job's workspace.
// Git itself doesn't register such a one; should it ever, we don't go there.
func TestSubmoduleBehindALink(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"link": "-> /tmp", "real": "=> " + strings.Repeat("ab", 20),
		".gitmodules": gitmodules("link", "../lib.git", "real", "../lib.git")})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	dir := work(t, s, c, noClone)
	for _, name := range []string{"link", "real"} {
		in(t, dir, "config", "submodule."+name+".url", "file:///lib.git")
	}
	w := workspace{mirror: mirrorOf(t, s, c), commit: c, dir: dir}
	subs, err := w.submodules(context.Background(), call{gitDir: w.gitDir(), workTree: dir})
	if err != nil || len(subs) != 1 || subs[0] != (submodule{"real", "real", "file:///lib.git"}) {
		t.Errorf("got %v, %v; want only the real one", subs, err)
	}
}

func TestSubmodulesNestTooDeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := workspace{mirror: &mirror{}}
	if err := w.addSubmodules(context.Background(), dir, "file:///x", maxNesting); err != nil {
		t.Errorf("the deepest may have none: %v", err)
	}
	write(t, dir+"/.gitmodules", gitmodules("s", "../s.git"), 0o644)
	if err := w.addSubmodules(context.Background(), dir, "file:///x", maxNesting); !errors.Is(err, ErrForbidden) {
		t.Errorf("want ErrForbidden, got %v", err)
	}
}

func TestSubmodulesOfWhatWasPushed(t *testing.T) {
	t.Parallel()
	s, c := pushed(t, files{".gitmodules": gitmodules("lib", "../lib.git"), "lib": "=> " + strings.Repeat("ab", 20)})
	ensure(t, s, c)
	if err := s.Checkout(context.Background(), c, withSubmodules, t.TempDir()); !errors.Is(err, ErrForbidden) {
		t.Errorf("want ErrForbidden, got %v", err)
	}
}
