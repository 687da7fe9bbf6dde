package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilTold ends the context by TERM, which is an engine's word, and lets every other
// signal that can be caught come to nothing: the steps run as the same user and may
// send any. None is ignored, since what a process ignores those that it starts ignore
// too. A step can't be told from an engine: TERM is heeded whoever sends it.
func untilTold(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Notify(make(chan os.Signal, 1)) // nobody takes them out: what doesn't fit is dropped
	return signal.NotifyContext(ctx, syscall.SIGTERM)
}
