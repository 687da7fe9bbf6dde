package supervise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/codepr/narwhal/fsm"
)

// exitBroken is the exit code of a supervisor that could not even keep a journal.
const exitBroken = 125

// Main is a container's first process: it runs the task that WriteSpec left in
// dir, with environ (what the image and the engine gave) below the task's own
// environment, and returns the exit code: 0 where the job passed. StopSignal cancels. A job
// with secrets has Await for it.
func Main(ctx context.Context, dir string, environ []string) int {
	task, err := readSpec(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "narwhal:", err)
		return exitBroken
	}
	ctx, stop := untilTold(ctx)
	defer stop()
	var reaping sync.WaitGroup // never waited for: it ends with this process
	r := newReaper()
	reaping.Go(r.run)
	journal := filepath.Join(dir, JournalFile)
	if task.SecretValues, err = prepare(dir); err != nil {
		o := fsm.Outcome{Status: fsm.Errored, Message: err.Error()}
		return exitOf(o, Note(journal, Record{Kind: RecordEnd, Outcome: &o}))
	}
	return exitOf(supervise(ctx, task, r, environ, filepath.Join(dir, LogFile), journal))
}

// prepare hides this process from the steps, and what it alone may know.
func prepare(dir string) (map[string]string, error) {
	if err := hide(); err != nil {
		return nil, err
	}
	return takeSecrets(dir)
}

func exitOf(o fsm.Outcome, err error) int {
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "narwhal:", err)
		return exitBroken
	case o.Status == fsm.Passed:
		return 0
	default:
		return max(o.ExitCode, 1)
	}
}
