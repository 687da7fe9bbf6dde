package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// StopSignal is what tells a supervisor to end, beside its socket: an engine's word, as
// the container's StopSignal. It is systemd's for a container's first process, which
// nothing sends by habit, unlike TERM.
const (
	StopSignal     = syscall.Signal(37)
	StopSignalName = "SIGRTMIN+3"
)

// untilTold ends the context by StopSignal, and lets every other signal that can be
// caught come to nothing: the steps run as the same user and may send any. None is
// ignored, since what a process ignores those that it starts ignore too. A step can't be
// told from an engine here: who wants to know asks the engine.
func untilTold(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Notify(make(chan os.Signal, 1)) // nobody takes them out: what doesn't fit is dropped
	return signal.NotifyContext(ctx, StopSignal)
}
