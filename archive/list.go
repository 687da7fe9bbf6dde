package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// List reads an archive to its end and says what is in it.
func List(ctx context.Context, r io.Reader, limits Limits) (Summary, error) {
	var sum Summary
	err := each(ctx, r, limits, func(e Entry, _ io.Reader) error {
		sum.add(e)
		return nil
	})
	if err != nil {
		return Summary{}, fmt.Errorf("list archive: %w", err)
	}
	return sum, nil
}

// Count is List without the entries, for an archive that may have very many: it
// remembers none.
func Count(ctx context.Context, r io.Reader, limits Limits) (files int, bytes int64, err error) {
	err = each(ctx, r, limits, func(e Entry, _ io.Reader) error {
		if !e.Mode.IsDir() {
			files++
			bytes += e.Size
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count archive: %w", err)
	}
	return files, bytes, nil
}

// Each gives visit each entry of an archive with its bytes, which visit may leave
// unread and may not keep.
func Each(ctx context.Context, r io.Reader, limits Limits, visit func(Entry, io.Reader) error) error {
	if err := each(ctx, r, limits, visit); err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	return nil
}

func each(ctx context.Context, r io.Reader, limits Limits, visit func(Entry, io.Reader) error) error {
	in, err := newReader(ctx, r, limits)
	if err != nil {
		return err
	}
	defer in.close()
	for {
		e, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(e, content{in}); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
}

// Open reads one file out of an archive, up to the limits on the way to it. It
// follows no links: ErrNotFound names them. Close the file, then r.
func Open(ctx context.Context, r io.Reader, path string, limits Limits) (io.ReadCloser, Entry, error) {
	in, err := newReader(ctx, r, limits)
	if err != nil {
		return nil, Entry{}, fmt.Errorf("open %q: %w", path, err)
	}
	e, err := in.seek(path)
	if err != nil {
		in.close()
		return nil, Entry{}, fmt.Errorf("open %q: %w", path, err)
	}
	return &file{content{in}}, e, nil
}

func (r *reader) seek(path string) (Entry, error) {
	for {
		e, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return Entry{}, ErrNotFound
		case err != nil:
			return Entry{}, err
		case e.Path != path:
		case e.Mode&fs.ModeSymlink != 0:
			return Entry{}, fmt.Errorf("it is a link to %q: %w", e.Link, ErrNotFound)
		case e.Link != "":
			return Entry{}, fmt.Errorf("it is another name of %q: %w", e.Link, ErrNotFound)
		case e.Mode.IsDir():
			return Entry{}, fmt.Errorf("it is a folder: %w", ErrNotFound)
		default:
			return e, nil
		}
	}
}

// content is an entry's bytes.
type content struct{ in *reader }

func (c content) Read(p []byte) (int, error) {
	n, err := c.in.tar.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.in.broken(err)
	}
	return n, err
}

// file is content that ends its reader.
type file struct{ content }

func (f *file) Close() error {
	f.in.close()
	return nil
}
