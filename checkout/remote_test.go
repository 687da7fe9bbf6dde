package checkout

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

func TestCloneURLs(t *testing.T) {
	all := []string{"https", "ssh", "http", "file"}
	for _, raw := range []string{
		"https://example.org/acme/api.git", "https://example.org:8443/acme/api", "http://127.0.0.1:3000/a/b.git",
		"ssh://git@example.org/acme/api.git", "ssh://git@example.org:22/~acme/api.git", "git@example.org:acme/api.git",
		"example.org:acme/api", "https://[::1]:8080/a/b.git", "file:///srv/git/a.git", "/srv/git/a.git",
		"https://example.org/acme/api@2.git", "https://example.org/a%20b.git",
	} {
		if _, err := parseRemote(raw, all); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"", "-", "--upload-pack=touch x", "-oProxyCommand=x:y", "ext::sh -c touch% x", "ext::touch", "fd::17", "http::https://h/p",
		"https://user:hunter2@example.org/a", "https://hunter2@example.org/a", "ssh://git:hunter2@example.org/a",
		"https://user:hun/ter2@example.org/a", "ssh://-oProxyCommand=x/a", "ssh://git@-oProxyCommand=x/a", "ssh://-o@example.org/a",
		"-x@example.org:a", "git@-oProxyCommand=x:a", "git@example.org:-a", "git@example.org:", "ssh://git@example.org/-a",
		"https://example.org/a\nb", "https://example.org/a%0ab", "https://example.org/a%0Db", "https://example.org/%00",
		"https://example.org/a%7f", "https://example.org/a b", "https://example.org\\@evil.example/a", "https://example.org",
		"https://example.org/", "https:///a", "https://exa mple.org/a", "https://example.org:/a", "https://example.org:port/a",
		"https://example.org/a#b", "file://host/a", "relative/path", "./a", "../a", "C:\\a", "https://" + strings.Repeat("a", 2048),
	} {
		r, err := parseRemote(raw, all)
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrForbidden) {
			t.Errorf("%q was accepted as %+v (%v)", raw, r, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2@")) {
			t.Errorf("%q: the error tells the secret: %v", raw, err)
		}
	}
}

func TestProtocols(t *testing.T) {
	byDefault := []string{"https", "ssh"}
	for _, raw := range []string{"http://h/a", "git://h/a", "file:///a", "/a", "ftp://h/a", "HTTPS://h/a", "ext://h/a"} {
		if _, err := parseRemote(raw, byDefault); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: want ErrForbidden, got %v", raw, err)
		}
	}
}

func TestOpenRefusesProtocol(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Protocols: []string{"https", "ext"}}
	if _, err := Open(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrForbidden) {
		t.Errorf("want ErrForbidden, got %v", err)
	}
}

// Git itself is told as well: what parseRemote lets through by mistake ends there.
func TestGitRefusesProtocol(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "a"})
	s := open(t)
	ensure(t, s, o.at(sha, "refs/heads/main"))
	m := mirrorOf(t, s, o.at(sha, "refs/heads/main"))
	canary := t.TempDir() + "/canary"
	for _, c := range []struct{ allowed, url string }{
		{"https:ssh", "file://" + o.dir},
		{"https:ssh:file", "ext::touch " + canary},
	} {
		err := m.git.run(context.Background(), call{gitDir: m.dir, protocol: c.allowed}, "fetch", "--end-of-options", c.url)
		if !errors.Is(err, ErrForbidden) {
			t.Errorf("%s with %s: want ErrForbidden, got %v", c.url, c.allowed, err)
		}
	}
	err := m.git.run(context.Background(), call{gitDir: m.dir}, "fetch", "--end-of-options", "--upload-pack=touch "+canary, "main")
	if err == nil {
		t.Error("an option was taken for a URL")
	}
	if exists(canary) {
		t.Error("a command was run")
	}
}

func TestRefs(t *testing.T) {
	for _, ref := range []string{"refs/heads/main", "refs/tags/v1.0", "refs/pull/7/head", "refs/heads/-x", "refs/heads/a@b", "refs/heads/ümlaut", "refs/heads/tmp_x"} {
		if err := checkRef(ref); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if _, err := tryGit(".", nil, "check-ref-format", ref); err != nil {
			t.Errorf("git disagrees: %v", err)
		}
	}
	for _, ref := range []string{
		"main", "HEAD", "-main", "--upload-pack=x", "refs/heads/a..b", "refs/heads/../../config", "refs/heads/a.lock", "refs/heads/a.lock/b",
		"refs/heads/a@{1}", "refs/heads/.a", "refs/heads//a", "refs/heads/", "refs/heads/a.", "refs/heads/a b", "refs/heads/a\nb", "refs/heads/a\x7f",
		"refs/heads/a:b", "refs/heads/a*", "refs/heads/a?", "refs/heads/a[", "refs/heads/a~1", "refs/heads/a^", "refs/heads/a\\b", "/refs/heads/a",
	} {
		if err := checkRef(ref); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: want ErrInvalid, got %v", ref, err)
		}
	}
}

func TestHostileCommits(t *testing.T) {
	s := open(t)
	sha := strings.Repeat("a", 40)
	good := fsm.Commit{Repo: "acme/api", CloneURL: "file:///nowhere", SHA: sha, Ref: "refs/heads/main"}
	for name, change := range map[string]func(*fsm.Commit){
		"short SHA": func(c *fsm.Commit) { c.SHA = "abc" }, "upper case": func(c *fsm.Commit) { c.SHA = strings.Repeat("A", 40) },
		"option for a SHA": func(c *fsm.Commit) { c.SHA = "--output=/tmp/x" }, "SHA of zeros": func(c *fsm.Commit) { c.SHA = strings.Repeat("0", 40) },
		"SHA and line": func(c *fsm.Commit) { c.SHA += "\n" }, "SHA of 41": func(c *fsm.Commit) { c.SHA += "a" },
		"ref": func(c *fsm.Commit) { c.Ref = "refs/heads/../x" }, "option for a ref": func(c *fsm.Commit) { c.Ref = "--upload-pack=x" },
		"URL":    func(c *fsm.Commit) { c.CloneURL = "ext::x" },
		"bundle": func(c *fsm.Commit) { c.CloneURL, c.Bundle = "", "../../etc/passwd" },
	} {
		c := good
		change(&c)
		for what, err := range map[string]error{
			"Ensure":   s.Ensure(context.Background(), c),
			"Checkout": s.Checkout(context.Background(), c, noClone, t.TempDir()),
			"ReadFile": func() error { _, err := s.ReadFile(context.Background(), c, "narwhal.yml"); return err }(),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s of a commit with a bad %s: want ErrInvalid, got %v", what, name, err)
			}
		}
		if dir := s.ObjectsDir(c); dir != "" {
			t.Errorf("%s: ObjectsDir gave %s", name, dir)
		}
	}
	for _, path := range []string{"", ".", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "a\nb", "a\x00b", "./a"} {
		if _, err := s.ReadFile(context.Background(), good, path); !errors.Is(err, ErrInvalid) {
			t.Errorf("path %q: want ErrInvalid, got %v", path, err)
		}
	}
}

func TestMirrorNames(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct{ host, path, id string }{
		{"h", "/a/b.git", "1"}, {"h", "/a/b.git", "2"}, {"h", "/../../etc", "3"}, {"push", "../../..", "4"}, {"", "/", "5"},
		{"[::1]:80", "/.git", "6"}, {"push", strings.Repeat("long", 100), "7"}, {"push", "-rf\n\x00", "8"},
	} {
		name := mirrorName(c.host, c.path, c.id)
		if strings.ContainsAny(name, "/\x00\n ") || name[0] == '.' || !strings.HasSuffix(name, ".git") || len(name) > 200 {
			t.Errorf("%+v makes folder %q", c, name)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%s and %s share folder %s", other, c.id, name)
		}
		seen[name] = c.id
	}
}
