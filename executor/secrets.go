package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/codepr/narwhal/fsm"
)

// secretDir is where secrets lie on their way into a container: in memory, so that
// no disk ever holds them.
type secretDir struct {
	base string // empty looks for one
	node fsm.NodeID
	mu   *sync.Mutex // held while the folder comes or goes
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

func (s secretDir) path(t Task) string { return filepath.Join(s.dir(), refName(t.Ref)) }

// write leaves the task's secrets for its container. The file is for every user,
// since the container's is not ours; the folder is for none but ours.
func (s secretDir) write(t Task) error {
	if len(t.Secrets) == 0 {
		return nil
	}
	if s.dir() == "" {
		return fmt.Errorf("hand on secrets: none of %s is in memory: set the folder for secrets", strings.Join(memoryDirs, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ensure(); err != nil {
		return fmt.Errorf("hand on secrets: %w", err)
	}
	data, err := json.Marshal(t.Secrets)
	if err != nil {
		return errors.New("hand on secrets: they are no text") // and err might quote them
	}
	file, err := os.OpenFile(s.path(t), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("hand on secrets: %w", err)
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Chmod(0o666), file.Close()); err != nil {
		return fmt.Errorf("hand on secrets: %w", err)
	}
	return nil
}

// ensure makes the folder, or makes sure that the one there is ours alone: anybody
// may make folders beside it.
func (s secretDir) ensure() error {
	if err := os.Mkdir(s.dir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(s.dir())
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ok || int(owner.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a folder of ours alone", s.dir())
	}
	return nil
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
	s.mu.Lock()
	defer s.mu.Unlock()
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
