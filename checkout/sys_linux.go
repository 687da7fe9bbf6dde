package checkout

import (
	"io/fs"
	"syscall"
)

// ownGroup puts a process in a group of its own, so that all that it starts can
// be ended with it, and has it die when narwhal does.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func statOf(info fs.FileInfo) fileStat {
	s := fileStat{size: uint32(info.Size())}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.ctimeSec, s.ctimeNsec = uint32(st.Ctim.Sec), uint32(st.Ctim.Nsec)
		s.mtimeSec, s.mtimeNsec = uint32(st.Mtim.Sec), uint32(st.Mtim.Nsec)
		s.dev, s.ino, s.uid, s.gid = uint32(st.Dev), uint32(st.Ino), st.Uid, st.Gid
	}
	return s
}
