package checkout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

// shelf keeps bundles for tests, by digest.
type shelf map[string]string

func (s shelf) Path(_ context.Context, digest string, _ []fsm.NodeID) (string, error) {
	path, ok := s[digest]
	if !ok {
		return "", errors.New("no such bundle")
	}
	return path, nil
}

func (s shelf) put(t *testing.T, data string) (digest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle")
	write(t, path, data, 0o600)
	sum := sha256.Sum256([]byte(data))
	digest = hex.EncodeToString(sum[:])
	s[digest] = path
	return digest
}

// bundle makes one of what the arguments of git rev-list name.
func (o *origin) bundle(revs ...string) string {
	o.t.Helper()
	path := filepath.Join(o.t.TempDir(), "bundle")
	o.git(append([]string{"bundle", "create", "--quiet", path}, revs...)...)
	return read(o.t, path)
}

func pushed(t *testing.T, all files) (*Mirrors, fsm.Commit) {
	t.Helper()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", all)
	bundles := shelf{}
	digest := bundles.put(t, o.bundle("refs/heads/main"))
	s := open(t, func(c *Config) { c.Bundles, c.Protocols = bundles, nil })
	return s, fsm.Commit{Repo: "../../etc/acme", SHA: sha, Ref: "refs/heads/main", Bundle: digest}
}

func TestPushedBundle(t *testing.T) {
	t.Parallel()
	s, c := pushed(t, files{"a": "1", "b": "-> a"})
	dir := work(t, s, c, noClone)
	if got := read(t, dir+"/a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	if got := in(t, dir, "status", "--porcelain", "--branch"); got != "## HEAD (no branch)" {
		t.Errorf("git status: %s", got)
	}
	m := mirrorOf(t, s, c)
	if filepath.Dir(m.dir) != s.cfg.Dir {
		t.Errorf("a repository's name chose the folder %s", m.dir)
	}
	if got := gitIn(t, m.dir, nil, "--git-dir="+m.dir, "rev-parse", "refs/narwhal/"+c.SHA); got != c.SHA {
		t.Errorf("nothing keeps the commit: its ref is %q", got)
	}
	if got := s.Have(); len(got) != 1 || got[0] != c.Repo {
		t.Errorf("Have gives %v", got)
	}
}

func TestBundleBuildsOnAnother(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("refs/heads/main", files{"a": strings.Repeat("line\n", 1000)})
	second := o.commit("refs/heads/main", files{"a": strings.Repeat("line\n", 1000) + "more\n"}, first)
	bundles := shelf{}
	s := open(t, func(c *Config) { c.Bundles = bundles })
	whole := fsm.Commit{Repo: "acme/api", SHA: first, Ref: "refs/heads/main"}
	o.git("update-ref", "refs/heads/first", first)
	whole.Bundle = bundles.put(t, o.bundle("refs/heads/first"))
	thin := whole
	thin.SHA, thin.Bundle = second, bundles.put(t, o.bundle("refs/heads/main", "^"+first))
	err := s.Ensure(context.Background(), thin)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), short(first)) {
		t.Errorf("without what it needs: want ErrNotFound and its name, got %v", err)
	}
	ensure(t, s, whole)
	dir := work(t, s, thin, noClone)
	if got := read(t, dir+"/a"); !strings.HasSuffix(got, "more\n") {
		t.Error("the wrong file")
	}
	if got := in(t, dir, "log", "--format=%H"); got != second+"\n"+first {
		t.Errorf("history is %s", got)
	}
}

func TestBundlesThatAreRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": strings.Repeat("some text, ", 1000)})
	good := o.bundle("refs/heads/main")
	blob := plant(t, o.dir, "blob", "[submodule \"../../x\"]\n\tpath = x\n\turl = ../x\n")
	evil := plantCommit(t, o.dir, entry("100644", ".gitmodules", blob))
	o.git("update-ref", "refs/heads/evil", evil)
	dotGit := plantCommit(t, o.dir, entry("100755", ".git", blob))
	o.git("update-ref", "refs/heads/dotgit", dotGit)
	hole := plantCommit(t, o.dir, entry("100644", "gone", strings.Repeat("ab", 20)))
	holed := "# v2 git bundle\n" + hole + " refs/heads/hole\n\n" +
		gitIn(t, o.dir, strings.NewReader(hole+"\n"+o.git("rev-parse", hole+"^{tree}")+"\n"), "pack-objects", "--quiet", "--stdout")
	other := originAt(t, t.TempDir(), "sha256.git", "sha256")
	other.commit("refs/heads/main", files{"a": "1"})
	flipped := []byte(good)
	flipped[len(flipped)-40] ^= 0x20

	bundles := shelf{}
	s := open(t, func(c *Config) { c.Bundles = bundles })
	for name, c := range map[string]struct {
		data, sha string
		want      error
	}{
		"a .gitmodules that attacks": {o.bundle("refs/heads/evil"), evil, ErrCorrupt},
		"a tree with .git":           {o.bundle("refs/heads/dotgit"), dotGit, ErrCorrupt},
		"a flipped bit":              {string(flipped), sha, ErrCorrupt},
		"half of one":                {good[:len(good)/2+20], sha, ErrCorrupt},
		"no bundle":                  {"hello", sha, ErrCorrupt},
		"an empty file":              {"", sha, ErrCorrupt},
		"a missing object":           {holed, hole, ErrCorrupt},
		"another hash":               {other.bundle("refs/heads/main"), sha, ErrInvalid},
		"another commit":             {o.bundle("refs/heads/main"), strings.Repeat("ab", 20), ErrNotFound},
	} {
		commit := fsm.Commit{Repo: "acme/" + name, SHA: c.sha, Ref: "refs/heads/main", Bundle: bundles.put(t, c.data)}
		if err := s.Ensure(context.Background(), commit); !errors.Is(err, c.want) {
			t.Errorf("%s: want %v, got %v", name, c.want, err)
		}
		left, err := filepath.Glob(filepath.Join(mirrorOf(t, s, commit).dir, "objects/pack/tmp_*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left (%v)", name, left, err)
		}
	}
	absent := fsm.Commit{Repo: "acme/api", SHA: sha, Bundle: strings.Repeat("ab", 32)}
	if err := s.Ensure(context.Background(), absent); err == nil || !strings.Contains(err.Error(), "no such bundle") {
		t.Errorf("a bundle that nobody has: %v", err)
	}
	none := open(t)
	if err := none.Ensure(context.Background(), absent); !errors.Is(err, ErrForbidden) {
		t.Errorf("without a source of bundles: want ErrForbidden, got %v", err)
	}
}

// Old histories build too when they are pushed.
func TestPushedBlemishes(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := blemished(t, o)
	bundles := shelf{}
	s := open(t, func(c *Config) { c.Bundles = bundles })
	c := fsm.Commit{Repo: "acme/api", SHA: sha, Bundle: bundles.put(t, o.bundle("refs/heads/main"))}
	ensure(t, s, c)
	if err := mirrorOf(t, s, c).keep(sha); err != nil { // a second time does no harm
		t.Error(err)
	}
	ref := filepath.Join(mirrorOf(t, s, c).dir, "refs/narwhal", sha)
	if data, err := os.ReadFile(ref); err != nil || !bytes.Equal(data, []byte(sha+"\n")) {
		t.Errorf("its ref is %q (%v)", data, err)
	}
}
