package bucket

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/codepr/narwhal/fsm"
)

// What the methods fail with.
var (
	// ErrNotFound is returned when the bucket answers that it does not have the blob.
	ErrNotFound = errors.New("the bucket does not have it")
	// ErrDown is returned when the bucket can't be used now.
	ErrDown = errors.New("the bucket can't be used now")
	// ErrForeign is returned when the bucket is another cluster's, or is not the one
	// that was at this URL before.
	ErrForeign = errors.New("another bucket than this cluster's")
)

// Config is what Open needs.
type Config struct {
	URL string
	// Known is what Mark gave at this URL before; zero for the first time. A bucket
	// that is known may be down when it is opened.
	Known Mark
	// Patience is how long the bucket may take for a sign of progress. Default: 1 min.
	Patience time.Duration
	// Retry is the shortest time between two questions whether a bucket that failed is
	// back; it doubles up to a minute. Default: 1 s.
	Retry time.Duration
	Log   *slog.Logger
}

// Mark is an object in the bucket that says which it is and whose, wherever its URL
// leads and however it is written.
type Mark struct {
	ID      string `json:"id"` // 12 hexadecimal digits
	Cluster string `json:"cluster"`
}

// Bucket is a bucket that was opened. Its methods may be called by many at once.
type Bucket struct {
	cfg  Config
	addr address
	mark Mark // zero until it is known; not set after Claim

	mu     sync.Mutex
	road   *blob.Bucket // nil until the driver could open it
	failed error        // why it can't be used now
	since  time.Time    // when that began
	until  time.Time    // when it is asked again
	wait   time.Duration
	change chan struct{} // closed and replaced when it fails, or is back
}

// Open opens a bucket and tries it: it writes, reads, lists and removes an object. What
// is known already may fail in that; then Run goes on trying. The error shows nothing
// that is secret.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	addr, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	cfg.Patience = cmp.Or(cfg.Patience, time.Minute)
	cfg.Retry = cmp.Or(cfg.Retry, time.Second)
	b := &Bucket{cfg: cfg, addr: addr, mark: cfg.Known, change: make(chan struct{})}
	if err := b.try(ctx); err != nil {
		if cfg.Known.ID == "" || ctx.Err() != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.fail(err)
	}
	return b, nil
}

// Close releases the driver.
func (b *Bucket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.road == nil {
		return nil
	}
	return b.road.Close()
}

// String is the URL without its query.
func (b *Bucket) String() string { return b.addr.shown }

// ID is that of the bucket's mark.
func (b *Bucket) ID() string { return b.mark.ID }

// Holder is the bucket among a blob's holders.
func (b *Bucket) Holder() fsm.NodeID { return fsm.BucketHolder(b.mark.ID) }

// Claim marks the bucket as the cluster's, or finds that it is, and gives the mark. A
// bucket that is known and down is taken at its word.
func (b *Bucket) Claim(ctx context.Context, cluster string) (Mark, error) {
	if b.mark.ID == "" {
		mark, err := b.claim(ctx, cluster)
		if err != nil {
			return Mark{}, fmt.Errorf("%s: %w", b, err)
		}
		b.mark = mark
	}
	if b.mark.Cluster != cluster {
		return Mark{}, fmt.Errorf("%s: %w: its %s says that it is cluster %s's; give each cluster a bucket, or a ?prefix=FOLDER/, of its own", b, ErrForeign, markKey, b.mark.Cluster)
	}
	return b.mark, nil
}

// The names of objects. A ?prefix= in the URL comes before them.
const (
	markKey     = "narwhal/bucket.json"
	probePrefix = "narwhal/probe/"
	blobPrefix  = "narwhal/blobs/"
)

var idPattern = regexp.MustCompile(`^[0-9a-f]{12}$`)

// claim reads the mark, and writes it where there is none: of two that do at a time
// one wins, and both read it.
func (b *Bucket) claim(ctx context.Context, cluster string) (mark Mark, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Patience)
	defer cancel()
	mark, err = b.readMark(ctx)
	if !errors.Is(err, ErrNotFound) {
		return mark, err
	}
	data, err := json.Marshal(Mark{ID: random(6), Cluster: cluster})
	if err != nil {
		return mark, err
	}
	err = b.road.WriteAll(ctx, markKey, data, &blob.WriterOptions{ContentType: "application/json", IfNotExist: true})
	if err != nil && gcerrors.Code(err) != gcerrors.FailedPrecondition {
		return mark, fmt.Errorf("write %s: %w", markKey, b.addr.clean(err))
	}
	return b.readMark(ctx)
}

func (b *Bucket) readMark(ctx context.Context) (mark Mark, err error) {
	data, err := b.road.ReadAll(ctx, markKey)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return mark, ErrNotFound
	}
	if err != nil {
		return mark, fmt.Errorf("read %s: %w", markKey, b.addr.clean(err))
	}
	if err := json.Unmarshal(data, &mark); err != nil || !idPattern.MatchString(mark.ID) || mark.Cluster == "" {
		return mark, fmt.Errorf("%s is no mark of narwhal's: remove it, where the bucket is to be this cluster's", markKey)
	}
	return mark, nil
}

// try tells whether the bucket can be used, and for all that it is used for.
func (b *Bucket) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Patience)
	defer cancel()
	road, err := b.opened(ctx)
	if err != nil {
		return err
	}
	if err := b.same(ctx); err != nil {
		return fmt.Errorf("%s: %w", b, err)
	}
	key, data := probePrefix+random(8), random(8)
	step := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %s: %w", b, what, b.addr.clean(err))
	}
	if err := step("write to it", road.WriteAll(ctx, key, []byte(data), &blob.WriterOptions{ContentType: "text/plain"})); err != nil {
		return err
	}
	got, err := road.ReadAll(ctx, key)
	if err == nil && string(got) != data {
		err = errors.New("it gives other bytes than were written")
	}
	if err = step("read from it", err); err == nil {
		_, _, err = road.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: probePrefix})
		err = step("list it", err)
	}
	return errors.Join(err, step("delete from it", road.Delete(ctx, key)))
}

// same tells whether the bucket is the one that it was: a file system that is not
// mounted, for one, is an empty folder.
func (b *Bucket) same(ctx context.Context) error {
	if b.mark.ID == "" {
		return nil
	}
	mark, err := b.readMark(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: there is no %s, which says that it is bucket %s; where it is a file system, see whether it is mounted", ErrForeign, markKey, b.mark.ID)
	case err == nil && mark != b.mark:
		return fmt.Errorf("%w: %s is of bucket %s and cluster %s, and was of bucket %s", ErrForeign, markKey, mark.ID, mark.Cluster, b.mark.ID)
	}
	return err
}

// missing is what it means that an object is not there: that there is no such object,
// or no such bucket any more.
func (b *Bucket) missing(ctx context.Context) error {
	if err := b.same(ctx); err != nil {
		return fmt.Errorf("%s: %w", b, err)
	}
	return fmt.Errorf("%s: %w", b, ErrNotFound)
}

// opened gives the driver's bucket.
func (b *Bucket) opened(ctx context.Context) (*blob.Bucket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.road == nil {
		road, err := blob.OpenBucket(ctx, b.addr.open)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b, b.addr.clean(err))
		}
		b.road = road
	}
	return b.road, nil
}

func random(bytes int) string {
	text := make([]byte, bytes)
	_, _ = rand.Read(text) // never fails
	return hex.EncodeToString(text)
}
