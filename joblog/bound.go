package joblog

import (
	"errors"
	"fmt"
	"os"
)

// Slack is how much longer than its limit a log may be, in bytes: for the record that
// says so, and for narwhal's own words of several writers.
const Slack = 64 << 10

// Bound cuts a log to its limit that has got longer than a Writer lets it, because the
// job has written to the file itself. Nobody may write to it any more. A log that is
// not there is no error.
func Bound(path string, limit int64) (err error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() <= limit+Slack) {
		return nil
	}
	if err == nil {
		err = os.Truncate(path, limit-1)
	}
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	w := &Writer{file: file, limit: limit, size: limit - 1}
	w.out = append(w.out, '\n') // what was cut need not end here
	w.addFull()
	w.send()
	return w.Close()
}
