package fsm

import (
	"bytes"
	"fmt"
)

// takeReport gives what of a report is kept of a job's attempt that has ended: all
// of it, as long as the reports of its build leave room. What is no failure takes no
// more than half of that, so that many jobs that pass don't crowd out the one that
// doesn't.
func (tx *txn) takeReport(j *Job, r *TestReport) *TestReport {
	if r == nil {
		return nil
	}
	if r.Size() > MaxReport {
		return r.Counts(fmt.Sprintf("what its tests say is left out: it has %d bytes, and a report keeps %d", r.Size(), MaxReport))
	}
	kept, left := *r, MaxBuildReports-tx.reported(j.ID.Build)
	kept.Slowest, kept.Passes = nil, nil
	if kept.Size() > left {
		return r.Counts(fmt.Sprintf("what its tests say is left out: the reports of a build keep %d KiB together", MaxBuildReports>>10))
	}
	room := left - MaxBuildReports/2 - kept.Size()
	if n := sizeOf(r.Slowest); n <= room {
		kept.Slowest = r.Slowest
		room -= n
	}
	if n := min(len(r.Passes), room) / 4 * 4; n > 0 {
		kept.Passes = bytes.Clone(r.Passes[:n])
	}
	return &kept
}

// reported is the size of all reports that a build has.
func (tx *txn) reported(build BuildID) int {
	n := 0
	it := tx.jobs.Root().Iterator()
	it.SeekPrefix(build.key())
	for _, j, ok := it.Next(); ok; _, j, ok = it.Next() {
		for i := range j.Attempts {
			if r := j.Attempts[i].Tests; r != nil {
				n += r.Size()
			}
		}
	}
	return n
}
