package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// parent starts processes and learns of their end.
type parent interface {
	// start runs argv[0], a path. wait must be called once.
	start(argv []string, attr *syscall.ProcAttr) (pid int, wait func() syscall.WaitStatus, err error)
}

// direct waits for each process by its number: for a process that has other
// children, which are nobody's business here.
type direct struct{}

func (direct) start(argv []string, attr *syscall.ProcAttr) (int, func() syscall.WaitStatus, error) {
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, nil, err
	}
	return pid, func() syscall.WaitStatus {
		var status syscall.WaitStatus
		for {
			_, err := syscall.Wait4(pid, &status, 0, nil)
			if !errors.Is(err, syscall.EINTR) {
				return status
			}
		}
	}, nil
}

// reaper waits for any process, as the first process of a container must: what
// was orphaned becomes its child.
type reaper struct {
	mu      sync.Mutex // held from a fork until its number is in waiting
	waiting map[int]chan syscall.WaitStatus
	more    chan struct{} // there is a child again
}

func newReaper() *reaper {
	return &reaper{waiting: make(map[int]chan syscall.WaitStatus), more: make(chan struct{}, 1)}
}

func (r *reaper) start(argv []string, attr *syscall.ProcAttr) (int, func() syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = ended
	select {
	case r.more <- struct{}{}:
	default:
	}
	return pid, func() syscall.WaitStatus { return <-ended }, nil
}

// run reaps for as long as this process lives.
func (r *reaper) run() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil { // no child is left, so nothing can be orphaned either
			<-r.more
			continue
		}
		r.mu.Lock()
		ended := r.waiting[pid]
		delete(r.waiting, pid)
		r.mu.Unlock()
		if ended != nil {
			ended <- status
		}
	}
}

// lookPath finds a command in the PATH of env. It is empty where there is none.
func lookPath(name string, env []string) string {
	if strings.Contains(name, "/") {
		if executable(name) {
			return name
		}
		return ""
	}
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func lookup(env []string, key string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(env[i], "="); ok && k == key {
			return v
		}
	}
	return ""
}

// overlay puts layers of KEY=VALUE on each other: one entry a key, the last one.
func overlay(layers ...[]string) []string {
	at := make(map[string]int)
	var env []string
	for _, layer := range layers {
		for _, entry := range layer {
			key, _, ok := strings.Cut(entry, "=")
			if !ok || key == "" || strings.ContainsRune(entry, 0) {
				continue
			}
			if i, seen := at[key]; seen {
				env[i] = entry
				continue
			}
			at[key] = len(env)
			env = append(env, entry)
		}
	}
	return env
}

// oomKills counts the processes of this container that were killed for want of
// memory: the engine's word on it may come after that of the container's end. It
// is 0 where there is no limit of our own.
func (r *run) oomKills() int {
	if r.task.MemoryLimit == "" {
		return 0
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.Atoi(strings.TrimSpace(text))
				return n
			}
		}
	}
	return 0
}

// yieldTo makes a process give way to this one: it gets the processor later and
// is killed earlier when memory is short. What isn't allowed is left.
func yieldTo(pid, nice, oomScore int) {
	if nice != 0 {
		if own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil {
			own = 20 - own // the kernel's answer is turned over to be never negative
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, min(own+nice, 19))
		}
	}
	if oomScore != 0 {
		_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0o644)
	}
}
