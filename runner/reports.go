package runner

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog/mask"
	"github.com/codepr/narwhal/junit"
)

// reportLimits bound the test reports of one job, unpacked.
var reportLimits = archive.Limits{Bytes: 256 << 20, Entries: 10_000}

// reports sums up the test reports that a job has left, without the secrets that it
// was given; nil where there are none. What can't be read of them is told in the sum.
func (k *keeper) reports(ctx context.Context, t executor.Task) *fsm.TestReport {
	f, err := left(t, executor.JUnitFile, k.limits.filled().Reports)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	sum := junit.Reports{Secrets: mask.New(slices.Collect(maps.Values(t.Secrets)))}
	if err == nil {
		err = archive.Each(ctx, f, reportLimits, func(e archive.Entry, r io.Reader) error {
			if e.Mode.IsRegular() {
				sum.Add(e.Path, r)
			}
			return nil
		})
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		sum.Broken("test reports", err)
	}
	r := sum.Report()
	if !t.Work.Commit.Fork && len(t.Secrets) < len(named(t.Work.Spec)) {
		// This start of the node has adopted the job and can't open what it was given.
		return r.Counts("what the tests say is left out: the job's secrets could not be opened again, to hide them in it")
	}
	return r
}
