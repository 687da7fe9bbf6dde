package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is how many levels of folders are open at a time, each with a descriptor.
const maxDepth = 100

// removeTree is os.RemoveAll for what a job has made, which may be nested deeper than
// there are descriptors: what lies deep is moved up into trash, a folder of ours on the
// same file system, and removed from there. It follows no links.
func removeTree(path, trash string) error {
	r := remover{trash: trash, todo: []string{path}}
	defer func() { _ = os.Remove(trash) }() // it stays while there is something in it
	for len(r.todo) > 0 {
		next := r.todo[len(r.todo)-1]
		r.todo = r.todo[:len(r.todo)-1]
		if err := r.remove(unix.AT_FDCWD, next, 0); err != nil {
			return fmt.Errorf("remove %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

type remover struct {
	trash string
	moved int      // so far
	todo  []string // folders, by their path
}

// remove removes what is at name in a folder. What is not there is no error.
func (r *remover) remove(folder int, name string, depth int) error {
	err := unix.Unlinkat(folder, name, 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) { // POSIX has the one, Linux the other
		return err
	}
	if depth == maxDepth {
		return r.lift(folder, name)
	}
	if err := r.empty(folder, name, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(folder, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lift moves a folder into the trash, for its turn.
func (r *remover) lift(folder int, name string) error {
	if err := os.MkdirAll(r.trash, 0o700); err != nil {
		return err
	}
	for {
		to := filepath.Join(r.trash, strconv.Itoa(r.moved))
		r.moved++
		err := unix.Renameat2(folder, name, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if errors.Is(err, fs.ErrExist) { // another removal's, or left by a crash
			continue
		}
		if err == nil {
			r.todo = append(r.todo, to)
		}
		return err
	}
}

// empty removes all that is in a folder. Names may be passed over while others go, so
// it looks until there are none.
func (r *remover) empty(folder int, name string, depth int) error {
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), "folder")
	defer func() { _ = dir.Close() }()
	for {
		names, err := dir.Readdirnames(1024)
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			if _, err := dir.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if names, err = dir.Readdirnames(1024); errors.Is(err, io.EOF) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, child := range names {
			if err := r.remove(fd, child, depth+1); err != nil {
				return err
			}
		}
	}
}
