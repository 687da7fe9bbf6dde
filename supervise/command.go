package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// maxScript is below what Linux takes as one argument of a process.
const maxScript = 127 << 10

func script(pieces []string) (string, error) {
	text := strings.Join(pieces, "\n")
	switch {
	case strings.ContainsRune(text, 0):
		return "", fmt.Errorf("its command holds a NUL byte")
	case len(text) > maxScript:
		return "", fmt.Errorf("its command is longer than %d KiB: put it into a file of the repository", maxScript>>10)
	}
	return text, nil
}

// command runs argv in a session of its own until it has ended and all that it
// printed is in the log. It is told to end when ctx does.
func (r *run) command(ctx context.Context, step int, argv, env []string) ending {
	kills := r.oomKills()
	pid, wait, err := r.parent.start(argv, &syscall.ProcAttr{
		Dir: r.task.Dir, Env: env, Files: r.out.files(), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return ending{status: fsm.Errored, message: fmt.Sprintf("%s could not be started: %v", argv[0], err)}
	}
	yieldTo(pid, r.task.Nice, r.task.OOMScore)
	if self, ok := stat(pid); ok {
		record := Record{Kind: RecordProcess, Step: step, Pid: pid, Start: self.Start}
		if _, shared := r.parent.(direct); shared { // a container's numbers mean nothing outside of it
			record.Boot = boot()
		}
		_ = r.journal.Append(record)
	}
	var (
		status  syscall.WaitStatus
		stopped bool // it was told to end, whatever it made of that
		watch   sync.WaitGroup
		quiet   = make(chan struct{}) // it has exited, and what is being stopped with it too
	)
	watch.Go(func() {
		exited := make(chan struct{})
		var guard sync.WaitGroup
		guard.Go(func() { stopped = r.guard(ctx, pid, exited) })
		status = wait()
		close(exited)
		guard.Wait()
		close(quiet)
		r.out.interrupt()
	})
	r.out.copy(step, quiet)
	watch.Wait()
	r.out.settle(step)
	if alive(pid) {
		r.sessions = append(r.sessions, pid)
	}
	end := r.judge(ctx, status, stopped)
	if end.cause == fsm.CauseFailure && r.oomKills() > kills {
		end.cause = fsm.CauseOOM
		end.message = fmt.Sprintf("it used more than its memory limit of %s (%s)", r.task.MemoryLimit, end.message)
	}
	return end
}

// guard stops the process group when ctx ends before it has, and reports whether
// it did.
func (r *run) guard(ctx context.Context, pid int, exited <-chan struct{}) (stopped bool) {
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
	if !r.endsIn(ctx, pid, exited) {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	return true
}

// endsIn waits for the grace that the stop gives, or the task, and reports
// whether the group has ended by itself.
func (r *run) endsIn(ctx context.Context, pid int, exited <-chan struct{}) bool {
	stop := &Stop{Grace: r.task.grace()}
	_ = errors.As(context.Cause(ctx), &stop)
	grace := time.NewTimer(stop.Grace)
	defer grace.Stop()
	select {
	case <-exited:
	case <-grace.C:
		return false
	case <-stop.Now:
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
		}
	}
	return true
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

// judge says how a step ended. One that was stopped has not passed, though it may
// tidy up and exit with 0 as a good process does.
func (r *run) judge(ctx context.Context, status syscall.WaitStatus, stopped bool) ending {
	switch {
	case !stopped && status.Exited() && status.ExitStatus() == 0:
		return ending{status: fsm.Passed}
	case ctx.Err() != nil:
		end := r.stopped(ctx)
		end.exit = exitCode(status)
		return end
	case status.Signaled():
		return ending{status: fsm.Failed, cause: fsm.CauseFailure, exit: exitCode(status),
			message: fmt.Sprintf("killed by signal %d (%s)", status.Signal(), status.Signal())}
	default:
		return ending{status: fsm.Failed, cause: fsm.CauseFailure, exit: exitCode(status),
			message: fmt.Sprintf("exit code %d", status.ExitStatus())}
	}
}

// exitCode follows the shells: 128 and the signal for what was killed.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// clean kills what the steps left behind. A step may leave a server running for
// the next one, so this comes when the job has ended.
func (r *run) clean() {
	for _, leader := range r.sessions {
		// Its leader has been waited for: one that is there has got its number since.
		if _, taken := stat(leader); !taken {
			_ = syscall.Kill(-leader, syscall.SIGKILL)
		}
	}
	last := max(len(r.results)-1, 0)
	// Whoever holds the output still is alive and has left its group.
	if r.out.drain(last) || len(r.task.Marks) == 0 || os.Getpid() == 1 {
		r.out.close()
		return
	}
	if n, err := KillAll(Marked(r.task.Marks)); err != nil || n > 0 {
		r.log.Printf("killed %d processes that the steps left behind", n)
	}
	r.out.drain(last)
	r.out.close()
}
