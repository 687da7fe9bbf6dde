package bundle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/codepr/narwhal/fsm"
)

// What the store's methods fail with.
var (
	// ErrNotFound is returned when the bundle is not here.
	ErrNotFound = errors.New("no such bundle is here")
	// ErrTooLarge is returned when a bundle is larger than its limit.
	ErrTooLarge = errors.New("the bundle is too large")
)

// Config is what Open needs.
type Config struct {
	Dir string
	// Budget is how many bytes are kept. The least recently used go first, but
	// none that was used within the last hour: a build that waits needs it.
	// Default: 10 GiB.
	Budget int64
	// Limit is how many bytes one that is fetched may have. Default: 1 GiB.
	Limit int64
	// Fetch reads a bundle from a node that holds it.
	Fetch func(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error)
}

// Store keeps bundles on this node's disk. Its methods may be called by many at
// once.
type Store struct {
	cfg   Config
	log   *slog.Logger
	fetch singleflight.Group

	mu sync.Mutex // one eviction at a time
}

// kept is how long a bundle is safe from eviction after its last use.
const kept = time.Hour

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open readies the folder and throws away what a crash left half written.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	cfg.Budget = cmp.Or(cfg.Budget, 10<<30)
	cfg.Limit = cmp.Or(cfg.Limit, 1<<30)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Dir, "new-*"))
	if err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open bundles: %w", err)
		}
	}
	return &Store{cfg: cfg, log: log}, nil
}

// Put stores what r brings, up to limit bytes, durably, and names it by its
// SHA-256.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error) {
	f, err := os.CreateTemp(s.cfg.Dir, "new-")
	if err != nil {
		return "", 0, fmt.Errorf("put bundle: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("put bundle: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), io.LimitReader(untilDone{ctx, r}, limit+1))
	if err != nil {
		return "", 0, err
	}
	if size > limit {
		return "", 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	if err := os.Rename(f.Name(), s.path(digest)); err != nil {
		return "", 0, err
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		return "", 0, err
	}
	if err := f.Close(); err != nil {
		return "", 0, fmt.Errorf("put bundle: %w", err)
	}
	s.evict(digest)
	return digest, size, nil
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Open reads a bundle that is here, and tells its bytes.
func (s *Store) Open(digest string) (io.ReadCloser, int64, error) {
	if !digestPattern.MatchString(digest) {
		return nil, 0, fmt.Errorf("bundle %q: %w", digest, ErrNotFound)
	}
	f, err := os.Open(s.path(digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("bundle %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open bundle: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open bundle: %w", err), f.Close())
	}
	s.touch(digest)
	return f, info.Size(), nil
}

// Path gives the bundle's file. Where it is not here it is fetched from one of
// the holders; callers that want the same one share the transfer.
func (s *Store) Path(ctx context.Context, digest string, holders []fsm.NodeID) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", fmt.Errorf("bundle %q: %w", digest, ErrNotFound)
	}
	if _, err := os.Stat(s.path(digest)); err == nil {
		s.touch(digest)
		return s.path(digest), nil
	}
	ch := s.fetch.DoChan(digest, func() (any, error) { return nil, s.bring(ctx, digest, holders) })
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-ch:
		if r.Err != nil && r.Shared && ctx.Err() == nil && errors.Is(r.Err, context.Canceled) {
			return s.Path(ctx, digest, holders) // it was the other caller who gave up
		}
		if r.Err != nil {
			return "", r.Err
		}
		return s.path(digest), nil
	}
}

func (s *Store) bring(ctx context.Context, digest string, holders []fsm.NodeID) error {
	if s.cfg.Fetch == nil || len(holders) == 0 {
		return fmt.Errorf("bundle %s: %w, and no other node is known to hold it", digest, ErrNotFound)
	}
	var errs []error
	for _, node := range holders {
		err := s.bringFrom(ctx, node, digest)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, fmt.Errorf("from node %s: %w", node, err))
	}
	return fmt.Errorf("fetch bundle %s: %w", digest, errors.Join(errs...))
}

func (s *Store) bringFrom(ctx context.Context, node fsm.NodeID, digest string) error {
	body, err := s.cfg.Fetch(ctx, node, digest)
	if err != nil {
		return err
	}
	got, _, err := s.Put(ctx, body, s.cfg.Limit)
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if got != digest {
		return errors.Join(errors.New("its bytes are not the ones of that name"), os.Remove(s.path(got)))
	}
	return nil
}

func (s *Store) path(digest string) string { return filepath.Join(s.cfg.Dir, digest+".bundle") }

// touch notes a use: the file's time orders evictions. A failure only makes it
// look older.
func (s *Store) touch(digest string) {
	now := time.Now()
	if err := os.Chtimes(s.path(digest), now, now); err != nil {
		s.log.Debug("note use of bundle", "digest", digest, "error", err)
	}
}

// evict brings the store back within its budget; what it can't remove it logs.
func (s *Store) evict(keep string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		s.log.Warn("list bundles", "error", err)
		return
	}
	var files []os.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".bundle") {
			continue
		}
		files = append(files, info)
		total += info.Size()
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= s.cfg.Budget || time.Since(f.ModTime()) < kept {
			return
		}
		if f.Name() == keep+".bundle" {
			continue
		}
		if err := os.Remove(filepath.Join(s.cfg.Dir, f.Name())); err != nil {
			s.log.Warn("remove old bundle", "error", err)
			continue
		}
		total -= f.Size()
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
