//go:build unix

package archive

import (
	"io/fs"
	"syscall"
)

// noFollow keeps a fifo or a link that came in a file's place from being waited
// for or followed.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// fileID tells files of one machine apart.
type fileID struct{ dev, ino uint64 }

// identify gives a file's identity, and whether it has several names.
func identify(info fs.FileInfo) (fileID, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Nlink > 1
}
