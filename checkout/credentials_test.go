package checkout

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

const user, secret = "bot", "hunter2/+x"

var basic = base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))

// private lets in who has the secret, and notes what every request brought.
type private struct {
	mu   sync.Mutex
	seen []string // Authorization headers
}

func (p *private) filter(w http.ResponseWriter, r *http.Request, next http.Handler) {
	header := r.Header.Get("Authorization")
	p.mu.Lock()
	p.seen = append(p.seen, header)
	p.mu.Unlock()
	if header != "Basic "+basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		http.Error(w, "no entry for "+header, http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, r)
}

// commandLines are those of all processes that name the URL.
func commandLines(t *testing.T, url string) (lines []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path) // a process may have ended meanwhile
		if err == nil && bytes.Contains(data, []byte(url)) {
			lines = append(lines, string(bytes.ReplaceAll(data, []byte{0}, []byte(" "))))
		}
	}
	return lines
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	sha := o.commit("refs/heads/main", files{"a": "1"})
	p := &private{}
	var lines []string
	var url string
	server := serve(t, root, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		p.mu.Lock()
		lines = append(lines, commandLines(t, url)...)
		p.mu.Unlock()
		p.filter(w, r, next)
	})
	url = server.URL
	c := o.at(sha, "refs/heads/main")
	c.CloneURL = url + "/api.git"

	err := open(t).Ensure(context.Background(), c)
	if !errors.Is(err, ErrAuth) {
		t.Errorf("without credentials: want ErrAuth, got %v", err)
	}
	wrong := open(t, func(cfg *Config) {
		cfg.Credentials = func(string) (string, string, bool) { return user, "wr0ng-secret", true }
	})
	err = wrong.Ensure(context.Background(), c)
	if !errors.Is(err, ErrAuth) || strings.Contains(err.Error(), "wr0ng-secret") {
		t.Errorf("with the wrong ones: want ErrAuth without the secret, got %v", err)
	}

	lines = nil
	var asked []string
	s := open(t, func(cfg *Config) {
		cfg.Credentials = func(url string) (string, string, bool) {
			asked = append(asked, url)
			return user, secret, true
		}
	})
	dir := work(t, s, c, noClone)
	if len(asked) == 0 || asked[0] != c.CloneURL {
		t.Errorf("credentials were asked for %v", asked)
	}
	if len(lines) == 0 {
		t.Error("no process named the URL: this shows nothing of command lines")
	}
	for _, line := range lines {
		if strings.Contains(line, secret) || strings.Contains(line, basic) {
			t.Errorf("a command line tells the secret: %s", line)
		}
	}
	for _, tree := range []string{dir, s.cfg.Dir} { // and no file keeps it
		if err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if data := read(t, path); strings.Contains(data, secret) || strings.Contains(data, basic) {
					t.Errorf("%s holds the secret", path)
				}
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// A server that sends git elsewhere is not followed, and the credentials stay.
func TestRedirect(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	sha := o.commit("refs/heads/main", files{"a": "1"})
	other := &private{}
	elsewhere := serve(t, root, other.filter)
	first := serve(t, root, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, elsewhere.URL+r.URL.String(), http.StatusFound)
	})
	s := open(t, func(cfg *Config) {
		cfg.Credentials = func(string) (string, string, bool) { return user, secret, true }
	})
	c := o.at(sha, "refs/heads/main")
	c.CloneURL = first.URL + "/api.git"
	if err := s.Ensure(context.Background(), c); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("want an error without the secret, got %v", err)
	}
	if len(other.seen) > 0 {
		t.Errorf("the other server was asked, with %v", other.seen)
	}
}

// The header is bound to scheme, host and port, though one process may speak to
// several.
func TestCredentialsAreOfOneHost(t *testing.T) {
	t.Parallel()
	p := &private{}
	root := t.TempDir()
	elsewhere := serve(t, root, p.filter)
	s := open(t, func(cfg *Config) {
		cfg.Credentials = func(string) (string, string, bool) { return user, secret, true }
	})
	c := fsm.Commit{Repo: "a", CloneURL: "file://" + newOrigin(t).dir, SHA: strings.Repeat("ab", 20)}
	m := mirrorOf(t, s, c)
	if err := m.make(); err != nil {
		t.Fatal(err)
	}
	home := remote{url: "http://127.0.0.1:1/api.git", scheme: "http", host: "127.0.0.1:1", path: "/api.git"}
	err := s.git.run(context.Background(), call{gitDir: m.dir, remote: &home}, "ls-remote", "--end-of-options", elsewhere.URL+"/api.git")
	if !errors.Is(err, ErrAuth) {
		t.Errorf("want ErrAuth, got %v", err)
	}
	if len(p.seen) == 0 {
		t.Error("the other server was not asked: this shows nothing")
	}
	for _, header := range p.seen {
		if header != "" {
			t.Errorf("another host was told %q", header)
		}
	}
}

func TestScrub(t *testing.T) {
	got := scrub("fatal: unable to access 'https://u:p/w@h/x': "+secret+" "+basic, secret, basic)
	for _, word := range []string{"u:p", "p/w", secret, basic} {
		if strings.Contains(got, word) {
			t.Errorf("%q tells %q", got, word)
		}
	}
}
