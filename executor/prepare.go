package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/codepr/narwhal/supervise"
)

// prepare lays out what the container finds of the attempt's folder: single
// files, so that the job can't put a link in the place of one that we read.
func (d *Docker) prepare(t Task, images map[string]picture, engine Engine) error {
	if err := t.layOut(); err != nil {
		return err
	}
	below := []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
	spec := task(t, workspaceIn, below, d.cfg.Grace, d.cfg.LogLimit)
	spec.Where = "image " + t.Work.Spec.Image
	spec.Install = true
	spec.OOMScore = 900
	spec.MemoryLimit, spec.MemoryBytes = bytesText(memoryLimit(t)), memoryLimit(t)
	spec.SocketDir = filepath.Join(superviseIn, supervise.SocketsDir)
	spec.Marks = nil // the container's end is the end of all in it
	for i := range spec.Steps {
		if lost := images[t.Work.Spec.Steps[i].Image].lost; lost != nil {
			spec.Steps[i].Missing = &supervise.Missing{Cause: lost.Cause, Message: lost.Message}
		}
	}
	if err := supervise.WriteSpec(t.Dir, spec); err != nil {
		return err
	}
	if !engine.UserNS && !engine.Rootless && rootOnly(t, images) {
		return nil
	}
	return openTo(t.Workspace)
}

// layOut makes what of the attempt's folder is mounted, but for the checkout and the
// spec.
func (t Task) layOut() error {
	for _, path := range []string{t.log(), t.journal()} {
		if err := touch(path); err != nil {
			return err
		}
	}
	for name, mode := range map[string]fs.FileMode{supervise.InDir: 0o755, supervise.OutDir: 0o777, supervise.SocketsDir: 0o777} {
		if err := t.folder(name, mode); err != nil {
			return err
		}
	}
	return nil
}

// rootOnly reports whether every step is run by root.
func rootOnly(t Task, images map[string]picture) bool {
	for _, step := range t.Work.Spec.Steps {
		if step.Image != "" && !images[step.Image].root() {
			return false
		}
	}
	return images[t.Work.Spec.Image].root()
}

// touch makes a file that the container's user can write to, whoever that is.
func touch(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o666)
	if err != nil {
		return err
	}
	// The umask took what the container's user needs.
	return errors.Join(file.Chmod(0o666), file.Close())
}

// folder makes one of the attempt's folders.
func (t Task) folder(name string, mode fs.FileMode) error {
	path := filepath.Join(t.Dir, name)
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, mode)
}

// openTo lets every user work in the checkout, for images whose user isn't root.
// No step has run yet, so what it finds is git's.
func openTo(workspace string) error {
	return filepath.WalkDir(workspace, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o666
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
