package bundle

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/fsm"
)

// What the store's methods fail with.
var (
	// ErrNotFound is returned when the bundle is not here.
	ErrNotFound = blob.ErrNotFound
	// ErrTooLarge is returned when a bundle is larger than its limit.
	ErrTooLarge = blob.ErrTooLarge
)

// Config is what Open needs.
type Config struct {
	Dir string
	// Budget is how many bytes are kept. Default: package blob's.
	Budget int64
	// Limit is how many bytes one that is fetched may have. Default: package blob's.
	Limit int64
	// Fetch reads a bundle from a node that holds it.
	Fetch func(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error)
}

// Store keeps bundles on this node's disk: blobs with a name of their own.
type Store struct{ *blob.Store }

// Open readies the folder and throws away what a crash left half written.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	s, err := blob.Open(blob.Config{Dir: cfg.Dir, Suffix: ".bundle", Floor: time.Hour, Budget: cfg.Budget, Limit: cfg.Limit, Fetch: cfg.Fetch}, log)
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Open reads a bundle that is here, and tells its bytes.
func (s *Store) Open(digest string) (io.ReadCloser, int64, error) {
	f, size, err := s.Store.Open(digest)
	if err != nil {
		return nil, 0, err // f would be an interface that isn't nil
	}
	return f, size, nil
}

// Path gives the bundle's file, from one of the holders where it is not here.
func (s *Store) Path(ctx context.Context, digest string, holders []fsm.NodeID) (string, error) {
	return s.Store.Path(ctx, fsm.Blob{Digest: digest, Holders: holders})
}
