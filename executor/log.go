package executor

import (
	"log/slog"
	"os"

	"github.com/codepr/narwhal/joblog"
)

// say writes narwhal's own words into the attempt's log. A log that can't be
// written shows when the attempt runs.
func (t Task) say(limit int64, format string, args ...any) {
	log, err := joblog.Create(t.log(), limit)
	if err != nil {
		return
	}
	log.Printf(format, args...)
	_ = log.Close()
}

// endLog cuts a log that the job has made longer than limit by writing to the file
// itself, and gives its length in bytes. It is for when nothing of the job runs any
// more. What can't be cut, such as on a disk that fails, keeps no job from its end.
func (t Task) endLog(limit int64, log *slog.Logger) int64 {
	if err := joblog.Bound(t.log(), limit); err != nil {
		log.Warn("leave a log that is longer than its limit", "attempt", t.Ref.String(), "error", err)
	}
	info, err := os.Stat(t.log())
	if err != nil {
		return 0
	}
	return info.Size()
}
