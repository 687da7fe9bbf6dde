// Package checkout owns a node's copies of git repositories: one bare mirror
// per repository, and the workspaces that are made from it. It runs the git
// command line, and nothing else of narwhal does so on a runner's behalf.
//
// It doesn't own the workspace's life after Checkout: once a job's step has
// touched it, its .git is the job's and no git may run in it on the host.
//
// Invariants: what a forge, a webhook or a repository says (URLs, refs, SHAs,
// paths, file names, attributes, submodules) never becomes a git option, a
// command, a hook or a path outside the folder that it belongs in. Objects in
// a mirror are never deleted while it lives, since workspaces borrow them; a whole
// mirror goes only where no workspace in use borrows from it (evict.go). A
// pack arrives whole or not at all, so a commit that is there has its tree.
// One process owns the directory.
//
// Start reading at Mirrors, then mirror (mirror.go) and fetch.go; git.go is
// where git is hardened, remote.go where input is judged.
package checkout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// What goes wrong. All of them mean that the job's cause is checkout; the
// error's text is fit for the build's page and holds no secret.
var (
	// ErrInvalid is returned when a URL, ref, SHA or path is not acceptable.
	ErrInvalid = errors.New("not acceptable")
	// ErrForbidden is returned when the operator does not allow the protocol.
	ErrForbidden = errors.New("not allowed on this node")
	// ErrNotFound is returned when there is no such repository or commit.
	ErrNotFound = errors.New("not found")
	// ErrAuth is returned when the server wants other credentials.
	ErrAuth = errors.New("access denied")
	// ErrTransport is returned when the server can't be reached, breaks off or
	// is too slow: worth another try.
	ErrTransport = errors.New("transfer broke off")
	// ErrCorrupt is returned when what arrived is not sound: broken objects,
	// or objects that are made to attack git.
	ErrCorrupt = errors.New("refused by git's checks")
	// ErrNoLFS is returned when a job wants LFS and git-lfs is not installed.
	ErrNoLFS = errors.New("clone.lfs needs git-lfs, which is not installed on this node")
)

// BundleSource gives the local path of a bundle that `narwhal push` brought.
type BundleSource interface {
	Path(ctx context.Context, digest string, holders []fsm.NodeID) (string, error)
}

// Config is what Open needs. Only Dir is required.
type Config struct {
	// Dir holds the mirrors; an absolute path.
	Dir string
	// Protocols are the schemes that clone URLs may have. Default: https, ssh.
	// Others are http, git and file.
	Protocols []string
	// Timeout bounds one git process. Default: 10 minutes.
	Timeout time.Duration
	// Bundles is asked for commits that have a bundle and no URL.
	Bundles BundleSource
	// Credentials gives what a URL wants; ok is false where it wants none. They
	// are handed to the one git process through its environment, for the URL's
	// own host alone.
	Credentials func(url string) (user, secret string, ok bool)
	// Env is all of narwhal's own environment that git gets, such as PATH,
	// SSH_AUTH_SOCK and https_proxy. Default PATH: the system's.
	Env []string
}

// Mirrors are a node's mirrors. Its methods may be called by many at once.
type Mirrors struct {
	cfg  Config
	git  git
	log  *slog.Logger
	lock *os.File // flock: one process owns Dir
	pool *pool    // of the readers

	mu      sync.Mutex
	mirrors map[string]*mirror // by directory name
}

// Open readies the directory: it takes it for this process and throws away
// what a crash left half made. It fetches nothing.
func Open(cfg Config, log *slog.Logger) (*Mirrors, error) {
	if len(cfg.Protocols) == 0 {
		cfg.Protocols = []string{"https", "ssh"}
	}
	for _, p := range cfg.Protocols { // git would take ext, which runs commands
		if !slices.Contains([]string{"https", "ssh", "http", "git", "file"}, p) {
			return nil, fmt.Errorf("open mirrors: protocol %q: %w", p, ErrForbidden)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Minute
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("open mirrors %s: want an absolute path", cfg.Dir)
	}
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("open mirrors: git is needed on every node that runs jobs: %w", err)
	}
	home := filepath.Join(cfg.Dir, homeDir)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("open mirrors: %w", err)
	}
	lock, err := takeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Mirrors{
		cfg: cfg, log: log, lock: lock, mirrors: map[string]*mirror{},
		git: newGit(program, home, cfg), pool: &pool{},
	}
	if err := s.scan(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// homeDir is git's HOME: empty, so that no one's settings are read.
const homeDir = ".home"

func takeDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open mirrors: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("open mirrors %s: another narwhal uses it: %w", dir, err), f.Close())
	}
	return f, nil
}

// Ensure brings the commit into its mirror. Where it is there already that
// costs no process. Callers that wait for one repository share a fetch.
func (s *Mirrors) Ensure(ctx context.Context, c fsm.Commit) error {
	m, err := s.of(c)
	if err != nil {
		return err
	}
	return m.ensure(ctx, c)
}

// ReadFile reads a file of the commit, which Ensure has brought, from the
// object store and never through a work tree. A symbolic link is followed
// inside the commit only. The error is fs.ErrNotExist where there is no such
// file. Files above 16 MiB are refused.
func (s *Mirrors) ReadFile(ctx context.Context, c fsm.Commit, path string) ([]byte, error) {
	m, err := s.of(c)
	if err != nil {
		return nil, err
	}
	if !fs.ValidPath(path) || path == "." || hasControl(path) {
		return nil, fmt.Errorf("read file %q: %w", path, ErrInvalid)
	}
	kind, data, err := m.contents(ctx, c.SHA+":"+path)
	if errors.Is(err, fs.ErrNotExist) {
		err = m.noSuchFile(ctx, c.SHA)
	}
	if err != nil {
		return nil, fmt.Errorf("read file %s of %s: %w", path, short(c.SHA), err)
	}
	if kind != "blob" {
		return nil, fmt.Errorf("read file %s of %s: %w", path, short(c.SHA), fs.ErrNotExist)
	}
	return data, nil
}

// noSuchFile tells a commit without the file from a commit that is not here: of
// that nobody may say that it has no narwhal.yml.
func (m *mirror) noSuchFile(ctx context.Context, sha string) error {
	ok, err := m.has(ctx, sha)
	if err == nil && !ok {
		err = fmt.Errorf("the commit is not here: %w", ErrNotFound)
	}
	return cmp.Or(err, fs.ErrNotExist)
}

// ObjectsDir is the folder that the commit's workspaces borrow objects from. It
// is to be mounted read-only at the same path where git is to work in them. It
// is empty for a commit that is not acceptable.
func (s *Mirrors) ObjectsDir(c fsm.Commit) string {
	m, err := s.of(c)
	if err != nil {
		return ""
	}
	return m.objects()
}

// Have lists the repositories, by Commit.Repo, whose mirror is here.
func (s *Mirrors) Have() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have()
}

// Close ends the processes that mirrors keep, and gives the directory back. No
// other method may run or be called any more.
func (s *Mirrors) Close() error {
	s.pool.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mirrors {
		m.stopReader()
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("close mirrors: %w", err)
	}
	return nil
}

func short(sha string) string { return sha[:min(len(sha), 12)] }
