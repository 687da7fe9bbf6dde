package supervise

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// parent starts processes and learns of their end.
type parent interface {
	// start runs argv[0], a path. wait must be called once.
	start(argv []string, attr *syscall.ProcAttr) (pid int, wait func() exit, err error)
}

// exit is what the kernel tells of a process that has ended.
type exit struct {
	status syscall.WaitStatus
	usage  usage // with that of those that it waited for
}

// peakSlack is by how much the kernel's figures of the same memory differ, in bytes.
const peakSlack = 1 << 20

// above leaves out a peak that may be this process's: the kernel starts what is
// executed with the peak of who forked it, which here is floor.
func (e exit) above(floor int64) exit {
	if e.usage.peak <= floor+peakSlack {
		e.usage.peak = 0
	}
	return e
}

// direct waits for each process by its number: for a process that has other
// children, which are nobody's business here.
type direct struct{}

func (direct) start(argv []string, attr *syscall.ProcAttr) (int, func() exit, error) {
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, nil, err
	}
	floor := ownPeak()
	return pid, func() exit {
		for {
			_, end, err := await(pid)
			if !errors.Is(err, syscall.EINTR) {
				return end.above(floor)
			}
		}
	}, nil
}

// reaper waits for any process, as the first process of a container must: what
// was orphaned becomes its child.
type reaper struct {
	mu      sync.Mutex // held from a fork until its number is in waiting
	waiting map[int]chan exit
	more    chan struct{} // there is a child again
}

func newReaper() *reaper {
	return &reaper{waiting: make(map[int]chan exit), more: make(chan struct{}, 1)}
}

func (r *reaper) start(argv []string, attr *syscall.ProcAttr) (int, func() exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ended := make(chan exit, 1)
	r.waiting[pid] = ended
	select {
	case r.more <- struct{}{}:
	default:
	}
	floor := ownPeak()
	return pid, func() exit { return (<-ended).above(floor) }, nil
}

// run reaps for as long as this process lives.
func (r *reaper) run() {
	for {
		pid, end, err := await(-1)
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
			ended <- end
		}
	}
}

// await waits for one process, or any.
func await(which int) (pid int, end exit, err error) {
	var ru syscall.Rusage
	pid, err = syscall.Wait4(which, &end.status, 0, &ru)
	end.usage = usage{
		cpu:  time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
		peak: ru.Maxrss << 10, // in KiB
	}
	return pid, end, err
}
