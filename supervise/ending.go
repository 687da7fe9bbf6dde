package supervise

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// What ended a run before its steps had.
var (
	errJobTimeout  = errors.New("the job took longer than its timeout")
	errStepTimeout = errors.New("it took longer than its timeout")
)

// ending is how a step, or a job, came to its end.
type ending struct {
	status  fsm.Status
	cause   fsm.Cause
	exit    int
	message string
	usage   usage
	allowed bool // it is a failure that the job goes on after
}

func misconfigured(format string, args ...any) ending {
	return ending{status: fsm.Errored, cause: fsm.CauseConfig, message: fmt.Sprintf(format, args...)}
}

func broken(format string, args ...any) ending {
	return ending{status: fsm.Errored, message: fmt.Sprintf(format, args...)}
}

// bounded ends ctx after d, for the reason what. A d of 0 bounds nothing.
func bounded(ctx context.Context, d time.Duration, what error) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w of %s", what, d))
}

// stopped says how a job or step ends whose context has.
func stopped(ctx context.Context) ending {
	cause := context.Cause(ctx)
	if errors.Is(cause, errJobTimeout) || errors.Is(cause, errStepTimeout) {
		return ending{status: fsm.Failed, cause: fsm.CauseTimeout, message: cause.Error()}
	}
	return ending{status: fsm.Canceled, cause: fsm.CauseCanceled, message: "canceled"}
}

// judge says how a command ended. One that was told to end has not passed, though
// it may tidy up and exit with 0 as a good process does.
func judge(ctx context.Context, status syscall.WaitStatus, told bool) ending {
	switch {
	case !told && status.Exited() && status.ExitStatus() == 0:
		return ending{status: fsm.Passed}
	case ctx.Err() != nil:
		end := stopped(ctx)
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
