package checkout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHeads(t *testing.T) {
	for _, hash := range []string{"sha1", "sha256"} {
		o := originAt(t, t.TempDir(), "acme/api.git", hash)
		first := o.commit("refs/heads/main", files{"a": "1"})
		second := o.commit("refs/heads/team/dev", files{"a": "2"}, first)
		o.git("tag", "light", first)
		o.git("-c", "user.name=A", "-c", "user.email=a@b", "tag", "-a", "-m", "m", "v1", second)
		o.git("update-ref", "refs/pull/1/head", first)
		o.git("update-ref", "refs/notes/x", first)
		server := serve(t, filepath.Dir(filepath.Dir(o.dir)), nil)
		want := []Head{{"refs/heads/main", first}, {"refs/heads/team/dev", second}, {"refs/tags/light", first}, {"refs/tags/v1", second}}
		s := open(t)
		for _, url := range []string{"file://" + o.dir, server.URL + "/acme/api.git"} {
			got, err := s.Heads(t.Context(), url)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s of %s: %v, %v; want %v", hash, url, got, err, want)
			}
		}
		if have := s.Have(); len(have) != 0 {
			t.Errorf("looking has made the mirrors %v", have)
		}
	}
}

func TestHeadsOfHostileServers(t *testing.T) {
	sha := strings.Repeat("ab", 20)
	got := parseHeads(sha + "\trefs/heads/ok\n" + sha + "\trefs/heads/--upload-pack=id/../x\n" + sha + "\trefs/heads/a b\n" +
		sha + "\trefs/pull/1/head\n" + "zz\trefs/heads/x\n" + strings.Repeat("0", 40) + "\trefs/heads/zero\n" + sha + "\trefs/heads/other^{}\n" + sha + "\trefs/tags/\x1b[2J\nx")
	if want := []Head{{"refs/heads/ok", sha}}; !slices.Equal(got, want) {
		t.Errorf("read %v", got)
	}

	s := open(t, func(c *Config) { c.Protocols = []string{"http"} })
	ran := filepath.Join(t.TempDir(), "ran")
	for _, url := range []string{"ext::touch " + ran, "--upload-pack=touch " + ran, "file:///etc", "https://h/acme/api", "http://u:hunter2@h/acme/api", ""} {
		if _, err := s.Heads(t.Context(), url); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrForbidden) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if exists(ran) {
		t.Error("a URL has run a command")
	}
	many := serve(t, t.TempDir(), func(w http.ResponseWriter, r *http.Request, _ http.Handler) { // the old protocol, without an end
		if r.URL.Query().Get("service") == "" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		pkt := func(text string) { fmt.Fprintf(w, "%04x%s", len(text)+4, text) }
		pkt("# service=git-upload-pack\n")
		fmt.Fprint(w, "0000")
		pkt(sha + " refs/heads/first\x00\n")
		for i := range 80_000 {
			pkt(fmt.Sprintf("%s refs/heads/%06d\n", sha, i))
		}
		fmt.Fprint(w, "0000")
	})
	if heads, err := s.Heads(t.Context(), many.URL+"/acme/api"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("%d heads, %v", len(heads), err)
	}
	said := &excerpt{limit: 100} // by git, before it fails
	if _, err := io.Copy(said, strings.NewReader(strings.Repeat("x", 1000))); err != nil || len(said.String()) != 100 {
		t.Errorf("kept are %d bytes, %v", len(said.String()), err)
	}
}

// TestHeadsAreNotWaitedForForEver has a server that never answers, and the caller's end.
func TestHeadsAreNotWaitedForForEver(t *testing.T) {
	asked := make(chan struct{}, 10)
	silent := serve(t, t.TempDir(), func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := context.AfterFunc(t.Context(), cancel)
	defer stop()
	s := open(t)
	go func() {
		<-asked
		cancel()
	}()
	if _, err := s.Heads(ctx, silent.URL+"/acme/api"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestHeadsReadNoRepository puts a repository with settings where git might look for one.
func TestHeadsReadNoRepository(t *testing.T) {
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s := open(t)
	dir := t.TempDir()
	gitIn(t, dir, nil, "init", "--quiet")
	gitIn(t, dir, nil, "config", "url.file:///nowhere.insteadOf", "file://"+o.dir)
	t.Chdir(dir)
	got, err := s.Heads(t.Context(), "file://"+o.dir)
	if err != nil || len(got) != 1 || got[0].SHA != sha {
		t.Errorf("%v, %v", got, err)
	}
	if left, err := os.ReadDir(s.git.home); err != nil || len(left) != 0 {
		t.Errorf("git has left %v, %v", left, err)
	}
}
