//go:build !linux

package checkout

import (
	"io/fs"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// statOf leaves out what differs between systems: git then looks at the file
// itself the first time.
func statOf(info fs.FileInfo) fileStat { return fileStat{size: uint32(info.Size())} }
