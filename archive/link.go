package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// link makes a symbolic or a hard link, in the place of what is there.
func (u *unpacker) link(l late) error {
	root := l.at.root
	if _, err := root.Lstat(l.rel); err == nil {
		if err := root.Remove(l.rel); err != nil { // a folder with something in it stays
			return err
		}
	}
	if l.Mode&fs.ModeSymlink == 0 {
		return u.hardLink(l)
	}
	if !u.opts.OutsideLinks && leadsOut(l.rel, l.Link) {
		return fmt.Errorf("%w: its link %q leads out", ErrUnsafe, l.Link)
	}
	if err := root.Symlink(l.Link, l.rel); err != nil {
		return err
	}
	if u.opts.OutsideLinks {
		return nil
	}
	// With other links on its way it can still lead out: root tells, as it does
	// not go there.
	if _, err := root.Stat(l.rel); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return errors.Join(fmt.Errorf("%w: its link %q leads out", ErrUnsafe, l.Link), root.Remove(l.rel))
}

func leadsOut(rel, target string) bool {
	joined := path.Join(path.Dir(rel), target)
	return path.IsAbs(target) || joined == ".." || strings.HasPrefix(joined, "../")
}

// hardLink gives a second name to a file that came with this archive.
func (u *unpacker) hardLink(l late) error {
	from, err := u.locate(strings.TrimSuffix(l.Link, "/"))
	if err != nil {
		return err
	}
	if mode, ok := u.seen[from.at.entryName(from.rel)]; !ok || !mode.IsRegular() {
		return fmt.Errorf("%w: it is a hard link to %q, which is no file of the archive before it", ErrUnsafe, l.Link)
	}
	if from.at == l.at {
		return l.at.root.Link(from.rel, l.rel)
	}
	return copyFile(from, l)
}

// copyFile stands in for a hard link between two folders, which may be on two disks.
func copyFile(from spot, to late) (err error) {
	in, err := from.at.root.Open(from.rel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := to.at.root.OpenFile(to.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, to.Mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(to.Mode), out.Close()); err != nil {
		return err
	}
	return to.at.root.Chtimes(to.rel, to.ModTime, to.ModTime)
}

// folder gives a folder the mode and time that it was packed with. One that was
// there before and is another's stays as it is.
func (l late) folder() error {
	err := l.at.root.Chmod(l.rel, l.Mode&modeBits)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.at.root.Chtimes(l.rel, l.ModTime, l.ModTime)
}
