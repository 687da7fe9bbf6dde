package executor

import "github.com/codepr/narwhal/supervise"

// Began reports whether a supervisor has done anything of the attempt: where it
// has not, and nothing of it is left, it can be started as if for the first time.
func (t Task) Began() (bool, error) {
	records, err := supervise.ReadJournal(t.journal())
	return len(records) > 0, err
}
