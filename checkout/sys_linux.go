package checkout

import "syscall"

// ownGroup puts a process in a group of its own, so that all that it starts can
// be ended with it, and has it die when narwhal does.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
