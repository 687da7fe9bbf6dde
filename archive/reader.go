package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what an archive may bring. Zero is the default.
type Limits struct {
	Bytes   int64 // of the files; default: 64 GiB
	Entries int   // default: 1,000,000
	Names   int64 // bytes of all names, with where links lead; default: 256 MiB
	// Ratio is how many bytes one byte of the archive may become, once there are
	// 64 MiB. Default: 1,000.
	Ratio int64
}

func (l Limits) filled() Limits {
	l.Bytes = cmp.Or(l.Bytes, 64<<30)
	l.Entries = cmp.Or(l.Entries, 1_000_000)
	l.Names = cmp.Or(l.Names, 256<<20)
	l.Ratio = cmp.Or(l.Ratio, 1_000)
	return l
}

const (
	maxWindow  = 64 << 20 // bytes that a decoder may be asked to remember
	freeOfSize = 64 << 20 // bytes that Ratio says nothing about
	maxTrailer = 1 << 20  // bytes after an archive's end
	maxName    = 4 << 10
)

// reader goes through an archive's entries, within limits. Close it.
type reader struct {
	ctx     context.Context // of the call that it serves
	tar     *tar.Reader
	content *unpacked
	zstd    *zstd.Decoder
	limits  Limits
	packed  atomic.Int64 // bytes of the archive so far
	bytes   int64        // of files so far
	names   int64        // bytes of names so far
	count   int
}

func newReader(ctx context.Context, r io.Reader, limits Limits) (*reader, error) {
	out := &reader{ctx: ctx, limits: limits.filled()}
	z, err := zstd.NewReader(counter{r, &out.packed}, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(math.MaxInt64))
	if err != nil {
		return nil, err
	}
	out.zstd, out.content = z, &unpacked{r: z, of: out}
	out.tar = tar.NewReader(out.content)
	return out, nil
}

func (r *reader) close() { r.zstd.Close() }

// counter counts what is read; a decoder may read from a goroutine of its own.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// unpacked is the tar within, all of it counted: headers too may be a bomb.
type unpacked struct {
	r  io.Reader
	of *reader
	n  int64
}

func (u *unpacked) Read(p []byte) (int, error) {
	if err := u.of.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := u.r.Read(p)
	u.n += int64(n)
	if packed := u.of.packed.Load(); u.n > freeOfSize && u.n/max(packed, 1) > u.of.limits.Ratio {
		return n, fmt.Errorf("%w: %d bytes became %d, and the limit is %d times", ErrTooLarge, packed, u.n, u.of.limits.Ratio)
	}
	return n, err
}

// next gives the next entry; io.EOF at the end of an archive that is whole.
func (r *reader) next() (Entry, error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return Entry{}, r.end()
	}
	if err != nil {
		return Entry{}, r.broken(err)
	}
	if r.count++; r.count > r.limits.Entries {
		return Entry{}, fmt.Errorf("%w: more than %d entries, which is the limit", ErrTooLarge, r.limits.Entries)
	}
	e, err := entryOf(h)
	if err != nil {
		return Entry{}, err
	}
	if r.names += int64(len(e.Path) + len(e.Link)); r.names > r.limits.Names {
		return Entry{}, fmt.Errorf("%w: the names of %d entries have more than %d bytes, which is the limit", ErrTooLarge, r.count, r.limits.Names)
	}
	if e.Size > r.limits.Bytes-r.bytes {
		return Entry{}, fmt.Errorf("%w: %q has %d bytes after %d in %d entries, and the limit is %d bytes",
			ErrTooLarge, e.Path, e.Size, r.bytes, r.count-1, r.limits.Bytes)
	}
	r.bytes += e.Size
	return e, nil
}

// end reads what follows the archive's end: only there is its sum.
func (r *reader) end() error {
	n, err := io.Copy(io.Discard, io.LimitReader(r.content, maxTrailer+1))
	if err == nil && r.content.n < 1024 {
		err = io.ErrUnexpectedEOF // not even the two blocks at a tar's end
	}
	if err != nil {
		return r.broken(err)
	}
	if n > maxTrailer {
		return fmt.Errorf("%w: it goes on after its end", ErrCorrupt)
	}
	return io.EOF
}

// broken says whose fault an error of the stream is.
func (r *reader) broken(err error) error {
	if cause := r.ctx.Err(); cause != nil {
		return cause
	}
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: after %d entries and %d bytes: %w", ErrCorrupt, r.count, r.packed.Load(), err)
}

// entryOf takes only what Pack writes.
func entryOf(h *tar.Header) (Entry, error) {
	e := Entry{Path: strings.TrimSuffix(h.Name, "/"), Mode: fs.FileMode(h.Mode) & modeBits, ModTime: h.ModTime}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Size = h.Size
	case tar.TypeDir:
		e.Mode |= fs.ModeDir
	case tar.TypeSymlink:
		e.Mode |= fs.ModeSymlink
		e.Link = h.Linkname
	case tar.TypeLink:
		e.Link = h.Linkname
	default:
		return Entry{}, fmt.Errorf("%w: %q is no file, folder or link (type %q)", ErrUnsafe, h.Name, h.Typeflag)
	}
	if len(h.Name) > maxName || len(h.Linkname) > maxName || strings.ContainsRune(h.Name+h.Linkname, 0) {
		return Entry{}, fmt.Errorf("%w: %.80q is no name for a file", ErrUnsafe, h.Name)
	}
	if e.Link == "" && (h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink) || e.Size < 0 {
		return Entry{}, fmt.Errorf("%w: %q leads nowhere", ErrUnsafe, h.Name)
	}
	if name := strings.TrimPrefix(strings.TrimPrefix(e.Path, "~/"), "/"); name != "~" {
		if _, ok := workspaceName(name); !ok {
			return Entry{}, fmt.Errorf("%w: %q is no name for a file", ErrUnsafe, h.Name)
		}
	}
	return e, nil
}
