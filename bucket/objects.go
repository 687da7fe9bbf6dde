package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/codepr/narwhal/fsm"
)

// Object is a blob in the bucket, or what else lies where blobs do.
type Object struct {
	Key    string
	Kind   fsm.BlobKind // of the store: logs, or archives; empty for what is no blob
	Digest string
	Size   int64 // bytes
	PutAt  time.Time
}

func key(kind fsm.BlobKind, digest string) string {
	return blobPrefix + path.Join(string(kind.Store()), digest[:2], digest)
}

// parseKey is key's reverse.
func parseKey(k string) (kind fsm.BlobKind, digest string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(k, blobPrefix), "/")
	if len(parts) != 3 || len(parts[2]) != 64 || key(fsm.BlobKind(parts[0]), parts[2]) != k {
		return "", "", false
	}
	return fsm.BlobKind(parts[0]), parts[2], true
}

// errStalled is the cause of a transfer's end.
var errStalled = errors.New("it made no progress")

// part is how much of an upload goes with one request, in bytes, where it goes with
// several, and so what is held in memory.
const part = 5 << 20

// Put stores what r brings under a blob's name. One that is there already is put
// again, so that it is young, and not about to be swept.
func (b *Bucket) Put(ctx context.Context, kind fsm.BlobKind, digest string, r io.Reader) error {
	if err := b.gate(); err != nil {
		return err
	}
	t := b.start(ctx)
	defer t.end()
	if b.addr.folder {
		if err := b.same(t.ctx); err != nil { // the driver would make the folder
			err = fmt.Errorf("put blob %s into %s: %w", digest, b, err)
			b.judge(ctx, err)
			return err
		}
	}
	err := b.road.Upload(t.ctx, key(kind, digest), &moving{r, t}, &blob.WriterOptions{
		ContentType: "application/octet-stream", BufferSize: part, MaxConcurrency: 1,
	})
	if err != nil {
		err = fmt.Errorf("put blob %s into %s: %w", digest, b, t.explain(b.addr.clean(err)))
		b.judge(ctx, err)
	}
	return err
}

// Get reads a blob: ErrNotFound where it is not there. The bytes are not compared with
// the name.
func (b *Bucket) Get(ctx context.Context, kind fsm.BlobKind, digest string) (io.ReadCloser, error) {
	if err := b.gate(); err != nil {
		return nil, err
	}
	t := b.start(ctx)
	r, err := b.road.NewReader(t.ctx, key(kind, digest), nil)
	if err != nil {
		defer t.end()
		if gcerrors.Code(err) == gcerrors.NotFound {
			err = b.missing(t.ctx)
		} else {
			err = fmt.Errorf("read from %s: %w", b, t.explain(b.addr.clean(err)))
		}
		b.judge(ctx, err)
		return nil, err
	}
	return &body{b: b, caller: ctx, r: moving{r, t}, close: r.Close}, nil
}

// body is a blob that is being read.
type body struct {
	b      *Bucket
	caller context.Context
	r      moving
	close  func() error
}

func (r *body) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read from %s: %w", r.b, r.r.t.explain(r.b.addr.clean(err)))
		r.b.judge(r.caller, err)
	}
	return n, err
}

func (r *body) Close() error {
	defer r.r.t.end()
	return r.close()
}

// Delete removes an object. One that is not there is no error.
func (b *Bucket) Delete(ctx context.Context, o Object) error {
	if err := b.gate(); err != nil {
		return err
	}
	t := b.start(ctx)
	defer t.end()
	err := b.road.Delete(t.ctx, o.Key)
	if err == nil || gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	err = fmt.Errorf("remove %s from %s: %w", o.Key, b, t.explain(b.addr.clean(err)))
	b.judge(ctx, err)
	return err
}

// PutAt is when an object was last put there, or ErrNotFound.
func (b *Bucket) PutAt(ctx context.Context, o Object) (time.Time, error) {
	if err := b.gate(); err != nil {
		return time.Time{}, err
	}
	t := b.start(ctx)
	defer t.end()
	a, err := b.road.Attributes(t.ctx, o.Key)
	switch {
	case err == nil:
		return a.ModTime, nil
	case gcerrors.Code(err) == gcerrors.NotFound:
		return time.Time{}, fmt.Errorf("%s in %s: %w", o.Key, b, ErrNotFound)
	}
	err = fmt.Errorf("look at %s in %s: %w", o.Key, b, t.explain(b.addr.clean(err)))
	b.judge(ctx, err)
	return time.Time{}, err
}

// List yields what lies where blobs do, or one error at the end.
func (b *Bucket) List(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := b.gate(); err != nil {
			yield(Object{}, err)
			return
		}
		t := b.start(ctx)
		defer t.end()
		for it := b.road.List(&blob.ListOptions{Prefix: blobPrefix}); ; {
			o, err := it.Next(t.ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("list %s: %w", b, t.explain(b.addr.clean(err)))
				b.judge(ctx, err)
				yield(Object{}, err)
				return
			}
			t.moved()
			found := Object{Key: o.Key, Size: o.Size, PutAt: o.ModTime}
			if kind, digest, ok := parseKey(o.Key); ok {
				found.Kind, found.Digest = kind, digest
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}

// transfer is a use of the bucket that ends when it makes no progress for too long.
type transfer struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
}

func (b *Bucket) start(ctx context.Context) *transfer {
	ctx, cancel := context.WithCancelCause(ctx)
	return &transfer{ctx, cancel, time.AfterFunc(b.cfg.Patience, func() { cancel(errStalled) }), b.cfg.Patience}
}

func (t *transfer) moved() { t.timer.Reset(t.patience) }

func (t *transfer) end() {
	t.timer.Stop()
	t.cancel(nil)
}

// explain says that a transfer stalled, where it did.
func (t *transfer) explain(err error) error {
	if errors.Is(context.Cause(t.ctx), errStalled) {
		return fmt.Errorf("%w for %s", errStalled, t.patience)
	}
	return err
}

// moving is a reader whose reads are progress.
type moving struct {
	r io.Reader
	t *transfer
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		m.t.moved()
	}
	return n, err
}
