package runner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes folders in each other, a file in the innermost.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range depth {
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, openErr := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		_, err = unix.Close(fd), openErr
		fd = next
	}
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err := errors.Join(err, unix.Close(file), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveDeepTree: deeper than there are descriptors, and than a path may be long.
func TestRemoveDeepTree(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 400
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	root := t.TempDir()
	tree, trash, outside := filepath.Join(root, "tree"), filepath.Join(root, "trash"), filepath.Join(root, "outside")
	for _, dir := range []string{tree, filepath.Join(trash, "0"), outside, filepath.Join(tree, "side")} { // trash/0 is another's
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nest(t, tree, 5000)
	nest(t, filepath.Join(tree, "side"), 3000)
	if err := errors.Join(os.WriteFile(filepath.Join(outside, "keep"), nil, 0o644), os.Symlink(outside, filepath.Join(tree, "link"))); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(tree, strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTree(tree, trash); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{tree: fs.ErrNotExist, filepath.Join(trash, "1"): fs.ErrNotExist, filepath.Join(trash, "0"): nil, filepath.Join(outside, "keep"): nil} {
		if _, err := os.Lstat(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if err := removeTree(tree, trash); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}
