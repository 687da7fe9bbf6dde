package checkout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// mirror is a bare repository that holds all of a remote's branches and tags,
// and the commits that were asked for.
type mirror struct {
	label
	dir     string
	remote  remote // zero for a mirror of pushed bundles
	git     git
	pool    *pool
	bundles BundleSource
	log     *slog.Logger

	readMu sync.Mutex // guards reader and idle
	reader *reader
	idle   *time.Timer

	// slot is held by the one caller that changes the mirror.
	slot chan struct{}
	made bool // guarded by slot: the folder was made, or found sound

	waitMu  sync.Mutex
	waiting []*want

	refsMu sync.Mutex
	refs   []ref // for workspaces; nil when they changed

	used, noted time.Time // last use, and what the disk says of it; under Mirrors.mu
}

// label is what the mirror's folder says about itself: the file narwhal.json.
// It is written before the folder gets its name, so a folder that has the name
// and the right label is whole.
type label struct {
	Repo   string `json:"repo"`   // Commit.Repo
	Source string `json:"source"` // the clone URL, or push:REPO
	Hash   string `json:"hash"`   // sha1 or sha256
}

const labelFile = "narwhal.json"

// of gives the mirror for a commit, which it judges first.
func (s *Mirrors) of(c fsm.Commit) (*mirror, error) {
	if err := checkSHA(c.SHA); err != nil {
		return nil, err
	}
	if c.Ref != "" {
		if err := checkRef(c.Ref); err != nil {
			return nil, err
		}
	}
	l := label{Repo: c.Repo, Source: c.CloneURL, Hash: "sha1"}
	if len(c.SHA) == 64 {
		l.Hash = "sha256"
	}
	var r remote
	host, path := "push", c.Repo
	if c.Bundle == "" {
		var err error
		if r, err = parseRemote(c.CloneURL, s.cfg.Protocols); err != nil {
			return nil, err
		}
		host, path = r.host, r.path
	} else {
		if !digestPattern.MatchString(c.Bundle) {
			return nil, fmt.Errorf("bundle %q: want a SHA-256: %w", c.Bundle, ErrInvalid)
		}
		l.Source = "push:" + c.Repo
	}
	name := mirrorName(host, path, l.Hash+"\x00"+l.Source)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mirrors[name]
	if m == nil {
		m = &mirror{
			label: l, dir: filepath.Join(s.cfg.Dir, name), remote: r, git: s.git, pool: s.pool,
			bundles: s.cfg.Bundles, log: s.log, slot: make(chan struct{}, 1),
		}
		s.mirrors[name] = m
	}
	if m.remote != r { // it was found at Open, and nobody has it yet
		m.remote = r
	}
	m.noteUse()
	return m, nil
}

// scan throws away what is half made, also in mirrors that are sound, and remembers
// the rest for Have.
func (s *Mirrors) scan() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("open mirrors: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(s.cfg.Dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), ".new-") || !e.IsDir() {
			continue
		}
		if l, ok := readLabel(dir); ok && sound(dir) {
			m := &mirror{
				label: l, dir: dir, git: s.git, pool: s.pool, bundles: s.cfg.Bundles,
				log: s.log, slot: make(chan struct{}, 1),
			}
			// A fetch that was killed may have left as much as it had fetched.
			if err := m.clearLeftovers(); err != nil {
				s.log.Warn("clean mirror", "repo", l.Repo, "error", err)
			}
			s.mirrors[e.Name()] = m
			continue
		}
		s.log.Warn("throw away half-made mirror", "dir", e.Name())
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("open mirrors: %w", err)
		}
	}
	return nil
}

func (s *Mirrors) have() []string {
	var repos []string
	for _, m := range s.mirrors {
		if _, err := os.Stat(filepath.Join(m.dir, labelFile)); err == nil {
			repos = append(repos, m.Repo)
		}
	}
	slices.Sort(repos)
	return slices.Compact(repos)
}

func readLabel(dir string) (l label, ok bool) {
	data, err := os.ReadFile(filepath.Join(dir, labelFile))
	if err != nil || json.Unmarshal(data, &l) != nil {
		return label{}, false
	}
	return l, !strings.HasPrefix(filepath.Base(dir), ".new-")
}

// sound reports whether git would take the folder for a repository.
func sound(dir string) bool {
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil || !strings.HasPrefix(string(head), "ref: refs/") {
		return false
	}
	for _, name := range []string{"objects/pack", "refs"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// make creates the mirror's folder where there is none that is sound, and
// clears the locks that a killed git left. The caller holds the slot.
func (m *mirror) make() error {
	if m.made && sound(m.dir) {
		return nil
	}
	if l, ok := readLabel(m.dir); !ok || l.Source != m.Source || l.Hash != m.Hash || !sound(m.dir) {
		if err := m.create(); err != nil {
			return fmt.Errorf("create mirror of %s: %w", m.Repo, err)
		}
	}
	if err := m.clearLeftovers(); err != nil {
		return fmt.Errorf("clean mirror of %s: %w", m.Repo, err)
	}
	m.made = true
	return nil
}

// create writes the repository by hand under another name, then renames it: a
// crash leaves a whole mirror or none.
func (m *mirror) create() error {
	m.stopReader()
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(m.dir), ".new-")
	if err != nil {
		return err
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
	if m.Hash == "sha256" {
		config = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
	}
	config += "[gc]\n\tauto = 0\n\tpruneExpire = never\n" // for people who run git here
	data, err := json.Marshal(m.label)
	if err != nil {
		return err
	}
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "refs/narwhal"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"HEAD": "ref: refs/heads/main\n", "config": config, labelFile: string(data)} {
		if err := writeSynced(filepath.Join(tmp, name), []byte(text)); err != nil {
			return err
		}
	}
	// Containers of other users read the objects.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := os.Rename(tmp, m.dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.dir))
}

// clearLeftovers removes locks and half-written packs. Nobody else writes here
// while the caller holds the slot, so all of them are a dead process's.
func (m *mirror) clearLeftovers() error {
	objects := filepath.Join(m.dir, "objects")
	return filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if filepath.Dir(path) == objects && len(name) == 2 {
				return fs.SkipDir
			}
			return nil
		}
		left := strings.HasSuffix(name, ".lock") || path == filepath.Join(m.dir, "packed-refs.new")
		if strings.HasPrefix(path, objects+"/") { // a branch may be called tmp_x
			left = left || strings.HasPrefix(name, "tmp_") || strings.HasSuffix(name, ".keep")
		}
		if left {
			return os.Remove(path)
		}
		return nil
	})
}

// has reports whether the commit is in the mirror.
func (m *mirror) has(ctx context.Context, sha string) (bool, error) {
	if _, err := os.Stat(filepath.Join(m.dir, "HEAD")); err != nil {
		return false, nil //nolint:nilerr // no mirror, so no commit in it
	}
	var kind string
	err := m.withReader(ctx, func(r *reader) (err error) {
		if _, err = fmt.Fprintf(r.in, "info %s\n", sha); err != nil {
			return err
		}
		kind, _, err = r.header()
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up commit %s: %w", short(sha), err)
	case kind != "commit":
		return false, fmt.Errorf("%s is a %s and no commit: %w", short(sha), kind, ErrInvalid)
	}
	return true, nil
}

// contents reads an object by a name that git understands and that holds no
// line break. fs.ErrNotExist where there is none.
func (m *mirror) contents(ctx context.Context, name string) (kind string, data []byte, err error) {
	err = m.withReader(ctx, func(r *reader) error {
		if _, err := fmt.Fprintf(r.in, "contents %s\n", name); err != nil {
			return err
		}
		var size int64
		if kind, size, err = r.header(); err != nil {
			return err
		}
		data, err = r.body(size)
		return err
	})
	return kind, data, err
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
