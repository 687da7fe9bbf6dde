package supervise

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"
)

// command runs argv in a session of its own until it has ended and all that it
// printed has been taken. It is told to end when ctx does.
func (s *site) command(ctx context.Context, step int, argv, env []string, out *output) ending {
	guest := s.enter()
	pid, wait, err := s.parent.start(argv, &syscall.ProcAttr{
		Dir: s.task.Dir, Env: env, Files: out.files(), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return s.leave(guest, broken("%s could not be started: %v", argv[0], err))
	}
	yieldTo(pid, s.task.Nice, s.task.OOMScore)
	s.started(step, pid)
	var (
		end   exit
		told  bool // to end, whatever it made of that
		watch sync.WaitGroup
		quiet = make(chan struct{}) // it has exited, and what is being stopped with it too
	)
	watch.Go(func() {
		exited := make(chan struct{})
		var guard sync.WaitGroup
		guard.Go(func() { told = s.guard(ctx, pid, exited) })
		end = wait()
		close(exited)
		guard.Wait()
		close(quiet)
		out.interrupt()
	})
	out.copy(quiet)
	watch.Wait()
	out.settle()
	if alive(pid) {
		s.mu.Lock()
		s.sessions = append(s.sessions, pid)
		s.mu.Unlock()
	}
	verdict := judge(ctx, end.status, told)
	verdict.usage = end.usage
	return s.leave(guest, verdict)
}

// memory is what the job has used at most, in bytes, and how many of its processes
// were killed for want of it: nothing where it has no limit of its own.
func (s *site) memory() (peak int64, kills int) {
	switch {
	case s.task.Memory != nil:
		return s.task.Memory()
	case s.task.MemoryLimit == "":
		return 0, 0
	default:
		return peakMemory(), oomKills()
	}
}

// guard stops the process group when ctx ends before it has, and reports whether
// it did.
func (s *site) guard(ctx context.Context, pid int, exited <-chan struct{}) (told bool) {
	select {
	case <-exited:
		return false
	case <-ctx.Done():
	}
	select {
	case <-exited: // both at once
		return false
	default:
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	if !s.endsIn(ctx, pid, exited) {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	return true
}

// endsIn waits for the grace that the stop gives, or the task, and reports
// whether the group has ended by itself.
func (s *site) endsIn(ctx context.Context, pid int, exited <-chan struct{}) bool {
	stop := s.task.stop(ctx)
	grace := time.NewTimer(stop.Grace)
	defer grace.Stop()
	select {
	case <-exited:
	case <-grace.C:
		return false
	case <-stop.Now:
		return false
	case <-s.now:
		return false
	}
	// The shell may be gone while what it ran is still tidying up. Nothing tells
	// of the end of a process that is not a child, so this has to look.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for busy(pid) {
		select {
		case <-look.C:
		case <-grace.C:
			return false
		case <-stop.Now:
			return false
		case <-s.now:
			return false
		}
	}
	return true
}

// Stop is the cause of a context that ends with a grace of its own.
type Stop struct {
	Grace time.Duration
	Now   <-chan struct{} // ends the grace early when it is closed; may be nil
}

func (s *Stop) Error() string { return "stopped with a grace of " + s.Grace.String() }

// stop is how what ctx ended is to be stopped.
func (t *Task) stop(ctx context.Context) *Stop {
	stop := &Stop{Grace: t.grace()}
	_ = errors.As(context.Cause(ctx), &stop)
	return stop
}

// alive reports whether the process group has members.
func alive(group int) bool { return syscall.Kill(-group, 0) == nil }

// busy reports whether the process group has members that are more than zombies,
// which some machines' first process leaves lying for seconds.
func busy(group int) bool {
	if !alive(group) {
		return false
	}
	procs, err := Processes()
	return err != nil || slices.ContainsFunc(procs, func(p Proc) bool { return p.Group == group })
}

// killSessions kills what the commands left behind in their sessions.
func (s *site) killSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, leader := range s.sessions {
		// Its leader has been waited for: one that is there has got its number since.
		if _, taken := stat(leader); !taken {
			_ = syscall.Kill(-leader, syscall.SIGKILL)
		}
	}
	s.sessions = nil
}
