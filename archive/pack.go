package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// PackOptions say what goes into an archive.
type PackOptions struct {
	Places
	// Paths are files and folders, or patterns (** for folders of any depth):
	// relative to Root, absolute, or below ~. A folder brings all that is in it.
	Paths []string
	// Exclude are patterns of what to leave out, by the names of the entries. A
	// folder that is left out takes all that is in it along.
	Exclude []string
	// Limit is how many bytes the files may have together; zero for any.
	Limit int64
	// MaxFiles is how many entries there may be. Default: 1,000,000.
	MaxFiles int
	// HardLinks keeps files that are one file as one. An archive with hard links
	// is for Unpack: Open can't read them.
	HardLinks bool
}

// Entry is one file of an archive.
type Entry struct {
	Path    string      `json:"path"`
	Size    int64       `json:"size"` // bytes
	Mode    fs.FileMode `json:"mode"` // with its type
	ModTime time.Time   `json:"mod_time"`
	Link    string      `json:"link,omitempty"` // where a link leads, or the other name of a hard link
}

// Summary says what is in an archive.
type Summary struct {
	Files   int     // regular files and links
	Bytes   int64   // of the files
	Entries []Entry // in the archive's order; folders too
	// Missing are those of the paths that there is nothing at. (Pack)
	Missing []string
	// Skipped are what an archive can't hold, such as sockets, and what went away
	// while it was packed. (Pack)
	Skipped []string
}

func (s *Summary) add(e Entry) {
	s.Entries = append(s.Entries, e)
	if !e.Mode.IsDir() {
		s.Files++
		s.Bytes += e.Size
	}
}

const (
	// small is the size up to which files are read, or written, by many at a time.
	small = 256 << 10
	// ahead is how many entries are on their way at a time: 16 MiB at most.
	ahead = 64
	// modeBits are those that an archive keeps.
	modeBits = 0o777
)

// workers is how many files are opened at a time. Opening and closing waits for
// the disk or for a lock more than it computes.
func workers() int { return 2 * runtime.GOMAXPROCS(0) }

// buffers are of small bytes each.
var buffers = sync.Pool{New: func() any { b := make([]byte, small); return &b }}

// Pack writes an archive of files to w. Whatever the error, what it has written
// is then to be thrown away.
func Pack(ctx context.Context, w io.Writer, opts PackOptions) (Summary, error) {
	opts.MaxFiles = cmp.Or(opts.MaxFiles, 1_000_000)
	p := &packer{opts: opts, ordered: make(chan *item, ahead), reads: make(chan *item, ahead)}
	if err := p.pack(ctx, w); err != nil {
		return Summary{}, fmt.Errorf("pack: %w", err)
	}
	return p.sum, nil
}

// packer is a Pack at work: one goroutine walks, some read the small files, and
// one writes them in the order of the walk.
type packer struct {
	opts    PackOptions
	ordered chan *item
	reads   chan *item
	sum     Summary // Missing is the walker's, the rest the writer's
	missing []string
}

// item is an entry on its way from the walker to the writer.
type item struct {
	Entry
	base   string  // in folder
	folder *folder // held until the file has been opened
	ready  chan struct{}
	data   *[]byte // of buffers, where the file is small
	n      int     // bytes of data
	skip   bool    // it is nothing that an archive can hold
	err    error
}

func (p *packer) pack(ctx context.Context, w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithConcurrentBlocks(true))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(p.ordered)
		defer close(p.reads)
		return p.walk(ctx)
	})
	for range workers() {
		g.Go(func() error {
			for it := range p.reads {
				it.read()
				close(it.ready)
			}
			return nil
		})
	}
	g.Go(func() error { return p.write(ctx, tar.NewWriter(z)) })
	err = g.Wait()
	for it := range p.ordered { // those that an error has left
		it.release()
	}
	p.sum.Missing = p.missing
	return errors.Join(err, z.Close())
}

// read brings a small file into memory.
func (it *item) read() {
	f, err := it.open()
	if err != nil {
		it.err = err
		return
	}
	it.data, _ = buffers.Get().(*[]byte)
	it.n, err = io.ReadFull(f, (*it.data)[:it.Size])
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // it has become shorter, and is taken as it is
	}
	it.err = errors.Join(err, f.Close())
}

// open opens the file that the walker saw, and gives the folder back.
func (it *item) open() (*os.File, error) {
	f, err := it.folder.root.OpenFile(it.base, os.O_RDONLY|noFollow, 0)
	err = errors.Join(err, it.folder.release())
	it.folder = nil
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, nil
		}
		err = errors.Join(err, f.Close(), errNotFile)
	}
	return nil, err
}

var errNotFile = errors.New("it has become something else while it was packed")

func (it *item) release() {
	if it.folder != nil {
		_ = it.folder.release() // nothing was written to it
		it.folder = nil
	}
	if it.data != nil {
		buffers.Put(it.data)
		it.data = nil
	}
}

// write puts the entries into the archive, in order.
func (p *packer) write(ctx context.Context, tw *tar.Writer) error {
	for it := range p.ordered {
		if err := ctx.Err(); err != nil {
			it.release()
			return err
		}
		err := p.writeOne(ctx, tw, it)
		it.release()
		if err != nil {
			return fmt.Errorf("%s: %w", it.Path, err)
		}
	}
	return errors.Join(ctx.Err(), tw.Close())
}

func (p *packer) writeOne(ctx context.Context, tw *tar.Writer, it *item) (err error) {
	var from *os.File
	if it.ready != nil {
		select {
		case <-it.ready:
		case <-ctx.Done():
			<-it.ready // a worker has it in its hands
			return ctx.Err()
		}
		it.Size, err = int64(it.n), it.err
	} else if it.folder != nil {
		from, err = it.open()
	}
	if it.skip || errors.Is(err, fs.ErrNotExist) {
		p.sum.Skipped = append(p.sum.Skipped, it.Path)
		return nil
	}
	if err != nil {
		return err
	}
	if from != nil {
		defer func() { err = errors.Join(err, from.Close()) }()
	}
	if over := p.sum.Bytes + it.Size; p.opts.Limit > 0 && over > p.opts.Limit {
		return fmt.Errorf("%w: %d bytes in %d files so far, and the limit is %d bytes", ErrTooLarge, over, p.sum.Files+1, p.opts.Limit)
	}
	if len(p.sum.Entries) >= p.opts.MaxFiles {
		return fmt.Errorf("%w: more than %d files, which is the limit", ErrTooLarge, p.opts.MaxFiles)
	}
	if err := tw.WriteHeader(it.header()); err != nil {
		return err
	}
	p.sum.add(it.Entry)
	if from != nil {
		return copyAll(ctx, tw, from, it.Size)
	}
	if it.data != nil {
		_, err = tw.Write((*it.data)[:it.n])
	}
	return err
}

// copyAll copies size bytes: no more of a file that grows.
func copyAll(ctx context.Context, w io.Writer, r io.Reader, size int64) error {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, (*buf)[:min(left, small)])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it has become shorter while it was packed")
		}
		if err != nil {
			return err
		}
		if _, err := w.Write((*buf)[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func (e *Entry) header() *tar.Header {
	h := &tar.Header{Name: e.Path, Mode: int64(e.Mode & modeBits), ModTime: e.ModTime, Linkname: e.Link}
	switch {
	case e.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case e.Mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
	case e.Link != "":
		h.Typeflag = tar.TypeLink
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	}
	return h
}
