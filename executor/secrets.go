package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/codepr/narwhal/fsm"
)

// secretDir is where versions of narwhal before this one left secrets on their way into
// a container: in memory, in a file of each attempt. What they left is removed.
type secretDir struct {
	base string // empty looks for one
	node fsm.NodeID
}

// memoryDirs are where machines have a file system in memory.
var memoryDirs = []string{"/run", "/dev/shm"}

func (s secretDir) dir() string {
	base := s.base
	for _, dir := range memoryDirs {
		if base == "" && inMemory(dir) {
			base = dir
		}
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, "narwhal-"+string(s.node))
}

func inMemory(dir string) bool {
	var found unix.Statfs_t
	if err := unix.Statfs(dir, &found); err != nil || found.Type != unix.TMPFS_MAGIC {
		return false
	}
	return unix.Access(dir, unix.W_OK) == nil
}

// remove ends what there is of an attempt's secrets.
func (s secretDir) remove(ref fsm.AttemptRef) error {
	dir := s.dir()
	if dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, refName(ref))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove secrets: %w", err)
	}
	return nil
}

// sweep removes those that keep doesn't name, and the folder with the last.
func (s secretDir) sweep(keep func(fsm.AttemptRef) bool) error {
	files, err := os.ReadDir(s.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep secrets: %w", err)
	}
	var errs []error
	for _, file := range files {
		if ref, err := parseRefName(file.Name()); err != nil || !keep(ref) {
			errs = append(errs, os.Remove(filepath.Join(s.dir(), file.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep secrets: %w", err)
	}
	_ = os.Remove(s.dir()) // it stays while there is something in it
	return nil
}
