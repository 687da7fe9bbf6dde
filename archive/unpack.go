package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// UnpackOptions say where an archive's files may go.
type UnpackOptions struct {
	Places
	// Paths are those that the archive was packed from, and all that it may write
	// to. Without any it may write anywhere below Root, and nowhere else.
	Paths []string
	// OutsideLinks lets symbolic links lead where they like. It is for a job's own
	// container, where the job could make such links itself; elsewhere a link that
	// leads out of its folder is ErrUnsafe.
	OutsideLinks bool
	Limits
}

// Unpack writes an archive's files. Files that are there are replaced, folders
// are kept. After an error the files that came before it are there: all of the
// archive is known to be whole only at its end.
func Unpack(ctx context.Context, r io.Reader, opts UnpackOptions) (Summary, error) {
	in, err := newReader(ctx, r, opts.Limits)
	if err != nil {
		return Summary{}, fmt.Errorf("unpack: %w", err)
	}
	defer in.close()
	u := &unpacker{opts: opts, in: in, seen: make(map[string]fs.FileMode), made: make(map[spot]bool), jobs: make(chan *job, ahead)}
	if err := u.unpack(ctx); err != nil {
		return Summary{}, fmt.Errorf("unpack: %w", err)
	}
	return u.sum, nil
}

// unpacker is an Unpack at work: one goroutine reads, many write small files.
type unpacker struct {
	opts    UnpackOptions
	in      *reader
	anchors []*anchor
	seen    map[string]fs.FileMode // what came so far, by name
	made    map[spot]bool          // folders that are there
	current spot
	folder  *folder // of current
	jobs    chan *job
	late    []late // links, once all files are there: nothing is written through them
	sum     Summary
}

// anchor is a folder below which entries go.
type anchor struct {
	place
	anywhere bool // below it, and not only where the pattern says
	root     *os.Root
}

// spot is a path below an anchor.
type spot struct {
	at  *anchor
	rel string
}

// late is what has to wait until all files are written.
type late struct {
	Entry
	spot
}

// job is a small file to write.
type job struct {
	Entry
	folder *folder
	data   *[]byte
}

func (u *unpacker) unpack(ctx context.Context) (err error) {
	if err := u.anchor(); err != nil {
		return err
	}
	defer func() {
		for _, a := range u.anchors {
			if a.root != nil {
				err = errors.Join(err, a.root.Close())
			}
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	for range workers() {
		g.Go(func() error {
			for j := range u.jobs {
				if err := u.finish(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(u.jobs)
		err := u.entries(ctx)
		if u.folder != nil {
			err = errors.Join(err, u.folder.release())
		}
		return err
	})
	err = g.Wait()
	for j := range u.jobs { // those that an error has left
		err = errors.Join(err, j.folder.release())
	}
	if err != nil {
		return err
	}
	return u.settle()
}

// anchor finds where entries may go.
func (u *unpacker) anchor() error {
	if len(u.opts.Paths) == 0 {
		u.anchors = []*anchor{{place: place{dir: u.opts.Root, pattern: "."}, anywhere: true}}
		return nil
	}
	for _, name := range u.opts.Paths {
		p, err := u.opts.locate(name)
		if err != nil {
			return err
		}
		u.anchors = append(u.anchors, &anchor{place: p})
	}
	return nil
}

// locate finds where an entry goes.
func (u *unpacker) locate(name string) (spot, error) {
	for _, a := range u.anchors {
		rel, ok := a.find(name)
		if !ok {
			continue
		}
		if a.root == nil {
			if err := os.MkdirAll(a.dir, 0o755); err != nil { // as a job's own commands would make it
				return spot{}, err
			}
			root, err := os.OpenRoot(a.dir)
			if err != nil {
				return spot{}, err
			}
			a.root = root
		}
		return spot{a, rel}, nil
	}
	if len(u.opts.Paths) > 0 {
		return spot{}, fmt.Errorf("%w: %q is in none of the paths %s", ErrUnsafe, name, strings.Join(u.opts.Paths, ", "))
	}
	return spot{}, fmt.Errorf("%w: %q leads out", ErrUnsafe, name)
}

func (u *unpacker) entries(ctx context.Context) error {
	for {
		e, err := u.in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if err := u.entry(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		u.sum.add(e)
	}
}

func (u *unpacker) entry(ctx context.Context, e Entry) error {
	s, err := u.locate(e.Path)
	if err != nil {
		return err
	}
	key := s.at.entryName(s.rel)
	if _, twice := u.seen[key]; twice {
		return fmt.Errorf("%w: it is there twice", ErrUnsafe)
	}
	u.seen[key] = e.Mode
	if e.Link != "" {
		u.seen[key] |= fs.ModeSymlink // for a hard link too: neither is there before the end
	}
	switch {
	case e.Mode.IsDir():
		if err := u.enter(s); err != nil {
			return err
		}
		u.late = append(u.late, late{e, s})
		return nil
	case s.rel == "." || u.made[s]:
		return fmt.Errorf("%w: it is no folder, and has files in it", ErrUnsafe)
	}
	if err := u.enter(spot{s.at, path.Dir(s.rel)}); err != nil {
		return err
	}
	if e.Link != "" {
		u.late = append(u.late, late{e, s})
		return nil
	}
	return u.file(ctx, e)
}

// enter makes a folder, with those above it, and opens it.
func (u *unpacker) enter(s spot) error {
	if u.folder != nil && u.current == s {
		return nil
	}
	if err := u.mkdir(s); err != nil {
		return err
	}
	root, err := s.at.root.OpenRoot(s.rel)
	if err != nil {
		return err
	}
	if u.folder != nil {
		err = u.folder.release()
	}
	u.folder, u.current = newFolder(root), s
	return err
}

// mkdir leaves alone what is there, a link to a folder below the anchor too, but
// for what came with the archive: that would be a trap.
func (u *unpacker) mkdir(s spot) error {
	if s.rel == "." {
		return nil
	}
	if _, ok := u.made[s]; ok {
		return nil
	}
	if err := u.mkdir(spot{s.at, path.Dir(s.rel)}); err != nil {
		return err
	}
	if mode, ok := u.seen[s.at.entryName(s.rel)]; ok && !mode.IsDir() {
		return fmt.Errorf("%w: %q is a folder, and a file before", ErrUnsafe, s.at.entryName(s.rel))
	}
	err := s.at.root.Mkdir(s.rel, 0o755) // its own mode it gets at the end
	if errors.Is(err, fs.ErrExist) {
		err = u.keepFolder(s)
	}
	if err != nil {
		return err
	}
	u.made[s] = true
	return nil
}

// keepFolder takes the folder that is there, or replaces a file.
func (u *unpacker) keepFolder(s spot) error {
	info, err := s.at.root.Stat(s.rel)
	if err == nil && info.IsDir() {
		if info.Mode()&0o300 != 0o300 { // as Go's module cache is
			_ = s.at.root.Chmod(s.rel, info.Mode()|0o700) // where it isn't ours, root may write, and others hear of it below
		}
		return nil
	}
	if err := s.at.root.Remove(s.rel); err != nil {
		return err
	}
	return s.at.root.Mkdir(s.rel, 0o755)
}

// file writes a large file, or has a small one written.
func (u *unpacker) file(ctx context.Context, e Entry) error {
	j := &job{Entry: e, folder: u.folder}
	if e.Size > small {
		return j.write(func(w io.Writer) error {
			buf, _ := buffers.Get().(*[]byte)
			defer buffers.Put(buf)
			if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{u.in.tar}, *buf); err != nil {
				return u.in.broken(err)
			}
			return nil
		})
	}
	j.data, _ = buffers.Get().(*[]byte)
	if _, err := io.ReadFull(u.in.tar, (*j.data)[:e.Size]); err != nil {
		buffers.Put(j.data)
		return u.in.broken(err)
	}
	j.folder.hold()
	select {
	case u.jobs <- j:
		return nil
	case <-ctx.Done():
		buffers.Put(j.data)
		return errors.Join(ctx.Err(), j.folder.release())
	}
}

// finish writes a small file, unless something has gone wrong elsewhere.
func (u *unpacker) finish(ctx context.Context, j *job) error {
	defer buffers.Put(j.data)
	err := ctx.Err()
	if err == nil {
		err = j.write(func(w io.Writer) error {
			_, err := w.Write((*j.data)[:j.Size])
			return err
		})
	}
	if err = errors.Join(err, j.folder.release()); err != nil {
		return fmt.Errorf("%s: %w", j.Path, err)
	}
	return nil
}

// write makes the file anew: what is in its place, be it a link, is not touched
// but taken away.
func (j *job) write(fill func(io.Writer) error) error {
	root, base := j.folder.root, path.Base(j.Path)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := root.OpenFile(base, flags, j.Mode|0o200)
	if errors.Is(err, fs.ErrExist) {
		if err := root.Remove(base); err != nil {
			return err
		}
		f, err = root.OpenFile(base, flags, j.Mode|0o200)
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chmod(j.Mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Chtimes(base, j.ModTime, j.ModTime)
}

// settle makes the links and gives the folders their modes and times, innermost
// first: a file that is made changes its folder's time.
func (u *unpacker) settle() error {
	for _, l := range u.late {
		if l.Link != "" {
			if err := u.link(l); err != nil {
				return fmt.Errorf("%s: %w", l.Path, err)
			}
		}
	}
	for _, l := range slices.Backward(u.late) {
		if l.Mode.IsDir() {
			if err := l.folder(); err != nil {
				return fmt.Errorf("%s: %w", l.Path, err)
			}
		}
	}
	return nil
}
