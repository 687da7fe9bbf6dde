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

	mu sync.Mutex // held by a use, and by an eviction
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
	digest, size, err = s.put(ctx, r, limit, "")
	if err != nil {
		return "", 0, fmt.Errorf("put bundle: %w", err)
	}
	return digest, size, nil
}

// put is Put for bytes of the name that is expected; empty for any.
func (s *Store) put(ctx context.Context, r io.Reader, limit int64, expected string) (digest string, size int64, err error) {
	f, err := os.CreateTemp(s.cfg.Dir, "new-")
	if err != nil {
		return "", 0, err
	}
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), io.LimitReader(untilDone{ctx, r}, limit+1))
	if err == nil {
		err = f.Sync()
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	switch err = errors.Join(err, f.Close()); {
	case err != nil:
	case size > limit:
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	case expected != "" && digest != expected:
		err = errors.New("its bytes are not the ones of that name")
	default:
		err = os.Rename(f.Name(), s.path(digest))
	}
	if err != nil {
		return "", 0, errors.Join(err, os.Remove(f.Name()))
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		return "", 0, err
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
	if !s.use(digest) {
		return nil, 0, fmt.Errorf("bundle %s: %w", digest, ErrNotFound)
	}
	f, err := os.Open(s.path(digest))
	if err != nil {
		return nil, 0, fmt.Errorf("open bundle: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open bundle: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Path gives the bundle's file. Where it is not here it is fetched from one of
// the holders; callers that want the same one share the transfer.
func (s *Store) Path(ctx context.Context, digest string, holders []fsm.NodeID) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", fmt.Errorf("bundle %q: %w", digest, ErrNotFound)
	}
	for !s.use(digest) {
		ch := s.fetch.DoChan(digest, func() (any, error) { return nil, s.bring(ctx, digest, holders) })
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case r := <-ch:
			if errors.Is(r.Err, errGaveUp) {
				if err := ctx.Err(); err != nil {
					return "", err
				}
				continue // another caller's context it was that ended
			}
			if r.Err != nil {
				return "", r.Err
			}
		}
	}
	return s.path(digest), nil
}

var errGaveUp = errors.New("the caller whose transfer it was gave up")

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
			return errGaveUp
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
	_, _, err = s.put(ctx, body, s.cfg.Limit, digest)
	return errors.Join(err, body.Close())
}

func (s *Store) path(digest string) string { return filepath.Join(s.cfg.Dir, digest+".bundle") }

// use reports whether the bundle is here, and notes that it is used: the file's
// time orders evictions, none of which can come between the two.
func (s *Store) use(digest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	err := os.Chtimes(s.path(digest), now, now)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("note use of bundle", "digest", digest, "error", err)
	}
	return !errors.Is(err, os.ErrNotExist)
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
