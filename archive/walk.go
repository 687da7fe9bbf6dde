package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// walker finds what is to be packed, in an order that only depends on the names.
type walker struct {
	*packer
	exclude []string
	at      place
	seen    map[string]bool      // entries of the paths so far
	linked  map[fileID]string    // the names of files that have several
	emit    func(it *item) error // hands an entry on
}

// walk sends what the paths name to the readers and the writer.
func (p *packer) walk(ctx context.Context) error {
	w := &walker{packer: p, seen: make(map[string]bool), linked: make(map[fileID]string)}
	for _, pattern := range p.opts.Exclude {
		pattern = strings.TrimPrefix(strings.TrimSuffix(pattern, "/"), "./")
		if !doublestar.ValidatePattern(pattern) {
			return fmt.Errorf("exclude: %w: %q is no pattern: look at its brackets", ErrPath, pattern)
		}
		w.exclude = append(w.exclude, pattern)
	}
	w.emit = func(it *item) error {
		if it.Mode.IsRegular() && it.Link == "" && it.Size <= small {
			it.ready = make(chan struct{})
			select {
			case p.reads <- it:
			case <-ctx.Done():
				it.release()
				return ctx.Err()
			}
		}
		select {
		case p.ordered <- it:
			return nil
		case <-ctx.Done():
			if it.ready != nil {
				<-it.ready
			}
			it.release()
			return ctx.Err()
		}
	}
	for _, name := range p.opts.Paths {
		if err := w.path(name); err != nil {
			return err
		}
	}
	return nil
}

// path walks what one of the paths names.
func (w *walker) path(name string) (err error) {
	if w.at, err = w.opts.locate(name); err != nil {
		return err
	}
	root, err := os.OpenRoot(w.at.dir)
	if errors.Is(err, fs.ErrNotExist) {
		w.missing = append(w.missing, name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	matches, err := w.matches(root)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(matches) == 0 {
		w.missing = append(w.missing, name)
	}
	for _, rel := range matches {
		if err := w.match(root, rel); err != nil {
			return err
		}
	}
	return nil
}

// matches are the paths below root that the pattern names, without those that lie
// in another of them.
func (w *walker) matches(root *os.Root) (top []string, err error) {
	all := []string{w.at.pattern}
	if hasMeta(w.at.pattern) {
		all, err = doublestar.Glob(root.FS(), w.at.pattern, doublestar.WithNoFollow())
	} else if _, err = root.Lstat(w.at.pattern); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, byParts)
	for _, rel := range all {
		if n := len(top); n > 0 && (top[n-1] == "." || strings.HasPrefix(rel+"/", top[n-1]+"/")) {
			continue
		}
		top = append(top, rel)
	}
	return top, nil
}

// byParts orders paths so that a folder is followed by what is in it.
func byParts(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}

// match takes one match, from the folder that it lies in.
func (w *walker) match(root *os.Root, rel string) error {
	parent, err := root.OpenRoot(path.Dir(rel))
	if err != nil {
		return fmt.Errorf("%s: %w", w.at.entryName(rel), err)
	}
	f := newFolder(parent)
	return errors.Join(w.visit(f, path.Base(rel), rel), f.release())
}

// visit takes the entry base of the folder f, and where it is a folder itself all
// that is in it.
func (w *walker) visit(f *folder, base, rel string) error {
	name := w.at.entryName(rel)
	if w.excluded(name) {
		return nil
	}
	info, err := f.root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has gone since the folder was read
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.entry(f, base, name, info); err != nil {
		return err
	}
	if !info.IsDir() {
		return nil
	}
	sub, err := f.root.OpenRoot(base)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	inner := newFolder(sub)
	return errors.Join(w.folder(inner, rel), inner.release())
}

func (w *walker) folder(f *folder, rel string) error {
	d, err := f.root.Open(".")
	if err != nil {
		return fmt.Errorf("%s: %w", w.at.entryName(rel), err)
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("%s: %w", w.at.entryName(rel), err)
	}
	slices.Sort(names)
	for _, base := range names {
		if err := w.visit(f, base, path.Join(rel, base)); err != nil {
			return err
		}
	}
	return nil
}

// entry hands one entry on, once.
func (w *walker) entry(f *folder, base, name string, info fs.FileInfo) (err error) {
	if w.seen[name] {
		return nil
	}
	w.seen[name] = true
	it := &item{base: base, Entry: Entry{Path: name, Mode: info.Mode() & (fs.ModeType | modeBits), ModTime: info.ModTime()}}
	switch {
	case info.IsDir():
	case info.Mode()&fs.ModeSymlink != 0:
		if it.Link, err = f.root.Readlink(base); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	case info.Mode().IsRegular():
		if it.Link = w.otherName(name, info); it.Link == "" {
			it.Size, it.folder = info.Size(), f.hold()
		}
	default:
		it.skip = true
	}
	return w.emit(it)
}

// otherName is that of a hard link which is in the archive already.
func (w *walker) otherName(name string, info fs.FileInfo) string {
	id, several := identify(info)
	if !w.opts.HardLinks || !several {
		return ""
	}
	other := w.linked[id]
	if other == "" {
		w.linked[id] = name
	}
	return other
}

func (w *walker) excluded(name string) bool {
	return slices.ContainsFunc(w.exclude, func(pattern string) bool { return doublestar.MatchUnvalidated(pattern, name) })
}
