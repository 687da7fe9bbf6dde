package blob

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
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/codepr/narwhal/fsm"
)

// What the store's methods fail with.
var (
	// ErrNotFound is returned when the blob is not here.
	ErrNotFound = errors.New("not here")
	// ErrGone is returned when every holder has been asked, and none has the blob any
	// more.
	ErrGone = errors.New("none of its holders has it any more")
	// ErrUnreachable is returned when no holder gave the blob, and not all could be asked.
	ErrUnreachable = errors.New("it could not be had from any that holds it")
	// ErrTooLarge is returned when a blob is larger than its limit.
	ErrTooLarge = errors.New("too large")
	// ErrCorrupt is returned when a blob's bytes are not those of its name; it has
	// been dropped then.
	ErrCorrupt = errors.New("its bytes are not the ones of that name")
)

// Config is what Open needs.
type Config struct {
	Dir string
	// Suffix ends the names of the files, such as ".bundle". Default: none.
	Suffix string
	// Budget is how many bytes are kept. The least recently used go first.
	// Default: 10 GiB.
	Budget int64
	// Floor is how long a blob is safe from eviction after its last use, whatever the
	// budget: so long it is at least there for who has just asked for it. Default: 1 min.
	Floor time.Duration
	// Limit is how many bytes one that is fetched may have. Default: 1 GiB.
	Limit int64
	// Fetch reads a blob from a node that holds it: ErrNotFound where that node
	// answers that it doesn't. Without Fetch none is fetched.
	Fetch func(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error)
	// Near puts holders into the order in which they are asked. Default: as they come.
	Near func(holders []fsm.NodeID) []fsm.NodeID
}

// Store keeps blobs on this node's disk. Its methods may be called by many at once.
type Store struct {
	cfg   Config
	log   *slog.Logger
	fetch singleflight.Group

	mu      sync.Mutex           // held by a use, and by an eviction
	pinned  map[string]int       // how many want it to stay
	waiting map[string]time.Time // blobs that stay until Settle, and since when
	bytes   int64                // of all, or more: a blob that came twice or went counts until the next eviction
}

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open readies the folder and throws away what a crash left half written.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	cfg.Budget = cmp.Or(cfg.Budget, 10<<30)
	cfg.Limit = cmp.Or(cfg.Limit, 1<<30)
	cfg.Floor = cmp.Or(cfg.Floor, time.Minute)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Dir, "new-*"))
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open blobs: %w", err)
		}
	}
	s := &Store{cfg: cfg, log: log, pinned: make(map[string]int), waiting: make(map[string]time.Time)}
	if err := s.readWaiting(); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	list, err := s.list()
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	s.bytes = sum(list)
	return s, nil
}

// Put stores what r brings, up to limit bytes, durably, and names it by its
// SHA-256.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error) {
	digest, size, err = s.put(ctx, r, limit, "")
	if err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
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
		// For all to read, by way of a link from an attempt's folder: this one is closed.
		err = errors.Join(f.Chmod(0o444), f.Sync())
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	switch err = errors.Join(err, f.Close()); {
	case err != nil:
	case size > limit:
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	case expected != "" && digest != expected:
		err = fmt.Errorf("%w (%d bytes)", ErrCorrupt, size)
	default:
		err = os.Rename(f.Name(), s.path(digest))
	}
	if err != nil {
		return "", 0, errors.Join(err, os.Remove(f.Name()))
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		return "", 0, err
	}
	s.evict(digest, size)
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

// Has reports whether the blob is here, which is no use of it.
func (s *Store) Has(digest string) bool {
	if !digestPattern.MatchString(digest) {
		return false
	}
	_, err := os.Lstat(s.path(digest))
	return err == nil
}

// Open reads a blob that is here, and tells its bytes.
func (s *Store) Open(digest string) (*os.File, int64, error) {
	if err := s.here(digest); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.path(digest))
	if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open blob: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// here notes a use, or is ErrNotFound.
func (s *Store) here(digest string) error {
	if !digestPattern.MatchString(digest) {
		return fmt.Errorf("blob %q: %w", digest, ErrNotFound)
	}
	if !s.use(digest) {
		return fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	return nil
}

// Verify reads a blob that is here and compares it with its name and, where that
// isn't negative, its size. One that differs is dropped: ErrCorrupt.
func (s *Store) Verify(ctx context.Context, digest string, size int64) error {
	if !s.Has(digest) {
		return fmt.Errorf("blob %q: %w", digest, ErrNotFound)
	}
	f, err := os.Open(s.path(digest))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("verify blob: %w", err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, untilDone{ctx, f})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("verify blob %s: %w", digest, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) == digest && (size < 0 || n == size) {
		return nil
	}
	err = fmt.Errorf("blob %s: %w: it has %d bytes on this disk, and was dropped", digest, ErrCorrupt, n)
	return errors.Join(err, s.Remove(digest))
}

// Remove drops a blob, pinned or not. One that is not here is no error.
func (s *Store) Remove(digest string) error {
	if !digestPattern.MatchString(digest) {
		return nil
	}
	if err := os.Remove(s.path(digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return s.Settle(digest)
}

// Info is what the store knows of a blob without reading it.
type Info struct {
	Digest string
	Size   int64     // bytes
	UsedAt time.Time // half of Config.Floor behind at most
}

// List gives all blobs that are here, the least recently used first.
func (s *Store) List() ([]Info, error) {
	list, err := s.list()
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	return list, nil
}

func (s *Store) path(digest string) string {
	return filepath.Join(s.cfg.Dir, digest+s.cfg.Suffix)
}

// use reports whether the blob is here, and notes that it is used: the file's
// time orders evictions, none of which can come between the two.
func (s *Store) use(digest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Lstat(s.path(digest))
	now := time.Now()
	if err == nil && now.Sub(info.ModTime()).Abs() > s.noted() {
		err = os.Chtimes(s.path(digest), now, now)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("note use of blob", "digest", digest, "error", err)
	}
	return !errors.Is(err, os.ErrNotExist)
}

// noted is how old a use may be that is not noted again.
func (s *Store) noted() time.Duration { return s.cfg.Floor / 2 }

func (s *Store) digestOf(name string) (string, bool) {
	digest, ok := strings.CutSuffix(name, s.cfg.Suffix)
	return digest, ok && digestPattern.MatchString(digest)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
