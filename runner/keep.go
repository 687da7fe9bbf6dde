package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// Blobs is this node's store of blobs, and the road to those of others.
type Blobs interface {
	// Put stores what r brings, durably, up to limit bytes.
	Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error)
	// Path gives a blob's file, fetched from a holder where it isn't here. It is safe
	// from eviction for a minute. ErrNoBlob where no holder has it any more.
	Path(ctx context.Context, b fsm.Blob) (string, error)
	// Copy has one more node hold a blob of this one, and names it: none where there
	// is no other.
	Copy(ctx context.Context, b fsm.Blob) (fsm.NodeID, error)
}

// Caches is the replicated index of caches.
type Caches interface {
	// Find gives the entry of the key, else the newest of a restore key.
	Find(ctx context.Context, repo string, scopes []string, key string, restore []string) (fsm.CacheEntry, bool, error)
	Save(ctx context.Context, e fsm.CacheEntry) error
	Used(ctx context.Context, e fsm.CacheEntry) error
	// Drop forgets an entry whose blob nobody has any more.
	Drop(ctx context.Context, e fsm.CacheEntry) error
}

// ErrNoBlob is returned when no node has a blob any more.
var ErrNoBlob = errors.New("no node has it any more")

// KeepLimits bound what one job may keep, in bytes. Zero is the default.
type KeepLimits struct {
	Cache     int64 // of one archive; 2 GiB
	Artifacts int64 // of the archive; 1 GiB
	Reports   int64 // of the archive of test reports; 64 MiB
}

func (l KeepLimits) filled() KeepLimits {
	l.Cache = cmp.Or(l.Cache, 2<<30)
	l.Artifacts = cmp.Or(l.Artifacts, 1<<30)
	l.Reports = cmp.Or(l.Reports, 64<<20)
	return l
}

// keeper moves archives between the attempts' folders and the blobs: what a job is
// given before it starts, and what it leaves. It packs and unpacks nothing: that is
// done in the job's own container, where the files are.
type keeper struct {
	node   fsm.NodeID
	blobs  Blobs
	caches Caches
	limits KeepLimits
	log    *slog.Logger
	now    func() time.Time
	// link lets an attempt's folder have the blob's own file. Only where the job
	// can't write to what it is given.
	link bool
}

// say writes a line of narwhal's own into the attempt's log.
type say func(format string, args ...any)

// bring gets what a job is given, and notes in the task what is to be unpacked and
// what to be packed. The checkout is there, and nothing of the job has run yet.
func (k *keeper) bring(ctx context.Context, t *executor.Task, say say) error {
	if len(t.Work.Spec.Cache) == 0 && len(t.Work.Artifacts) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(t.Dir, executor.InDir), 0o755); err != nil { // a container's user reads it; the folder above is closed
		return fmt.Errorf("make folder for archives: %w", err)
	}
	if err := k.bringCaches(ctx, t, say); err != nil {
		return err
	}
	return k.bringArtifacts(ctx, t, say)
}

// collect takes what a job has left, and gives the outcome with it. Its error is
// ctx's: it can be called again then.
func (k *keeper) collect(ctx context.Context, t executor.Task, o fsm.Outcome, say say) (fsm.Outcome, error) {
	if want := t.Work.Spec.Artifacts; want != nil {
		if len(want.JUnit) > 0 {
			o.Tests = k.reports(ctx, t)
		}
		if len(want.Paths) > 0 && wanted(want.When, o.Status) {
			o = k.collectArtifacts(ctx, t, o, say)
		}
	}
	if o.Status == fsm.Passed {
		k.collectCaches(ctx, t, say)
	}
	return o, ctx.Err()
}

// supply puts a blob's file into the folder of archives that a job is given.
func (k *keeper) supply(ctx context.Context, t *executor.Task, b fsm.Blob, name string) error {
	from, err := k.blobs.Path(ctx, b)
	if err != nil {
		return err
	}
	to := filepath.Join(t.Dir, executor.InDir, name)
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if k.link {
		if err := os.Link(from, to); err == nil {
			return nil
		} // the two may lie on two disks
	}
	return copyTo(ctx, to, from)
}

func copyTo(ctx context.Context, to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, untilDone{ctx, in})
	return errors.Join(err, out.Close())
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

// errOdd is returned for what a job has put in the place of an archive.
var errOdd = errors.New("it is no regular file: the job has put something in its place")

// left opens an archive that a job has left; fs.ErrNotExist where there is none. The
// folder is the job's, so that it is not trusted: no link in it is followed and no
// fifo waited for.
func left(t executor.Task, name string, limit int64) (*os.File, error) {
	root, err := os.OpenRoot(t.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // which was only read
	path := filepath.Join(executor.OutDir, name)
	for _, p := range []string{executor.OutDir, path} {
		info, err := root.Lstat(p)
		if err != nil {
			return nil, err
		}
		if info.IsDir() != (p == executor.OutDir) || !info.IsDir() && !info.Mode().IsRegular() {
			return nil, errOdd
		}
	}
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errOdd
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errOdd
	case info.Size() > limit:
		err = fmt.Errorf("%w: it has %d bytes packed, and the limit is %d", archive.ErrTooLarge, info.Size(), limit)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// store makes a blob of an archive, on this node and on a second one.
func (k *keeper) store(ctx context.Context, f *os.File, limit int64, say say) (fsm.Blob, error) {
	digest, size, err := k.blobs.Put(ctx, f, limit)
	if err != nil {
		return fsm.Blob{}, err
	}
	b := fsm.Blob{Digest: digest, Size: size, Holders: []fsm.NodeID{k.node}}
	second, err := k.blobs.Copy(ctx, b)
	if err != nil {
		say("it is kept on this node only: %v", err)
		return b, nil
	}
	if second != "" {
		b.Holders = append(b.Holders, second)
	}
	return b, nil
}

// keptFile is what a node remembers of an attempt's caches over its own restart:
// the job may have changed what their keys came from.
const keptFile = "caches.json"

func writeKept(t executor.Task, kept []kept) error {
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.Dir, keptFile), data, 0o600)
}

func readKept(t executor.Task) (kept []kept, err error) {
	data, err := os.ReadFile(filepath.Join(t.Dir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	return kept, err
}
