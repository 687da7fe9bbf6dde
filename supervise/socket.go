package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// listen makes the socket name in dir, which anybody may connect to who reaches
// the folder: the job's containers need not have the same user. A socket's path
// may have 107 bytes; that of a folder by its descriptor is shorter.
func listen(dir, name string) (net.Listener, func(), error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	_ = os.Remove(path) // of a supervisor that was killed
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(folder.Fd())), name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		_ = folder.Close()
		return nil, nil, fmt.Errorf("make socket %s: %w", name, errors.Unwrap(err))
	}
	l.SetUnlinkOnClose(false)
	closing := func() {
		_ = l.Close()
		_ = os.Remove(path)
		_ = folder.Close()
	}
	if err := os.Chmod(path, 0o666); err != nil {
		closing()
		return nil, nil, fmt.Errorf("make socket %s: %w", name, err)
	}
	return l, closing, nil
}

// dial connects to the socket at path. Who can write to its folder may have put
// anything there: a link is not followed, and what is no socket is not touched.
func dial(ctx context.Context, path string) (net.Conn, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("connect to %s: it is no socket", filepath.Base(path))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", filepath.Base(path), errors.Unwrap(err))
	}
	return conn, nil
}
