package runner

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/junit"
)

// reportLimits bound the test reports of one job, unpacked.
var reportLimits = archive.Limits{Bytes: 256 << 20, Entries: 10_000}

// reports sums up the test reports that a job has left; nil where there are none.
// What can't be read of them is told in the sum.
func (k *keeper) reports(ctx context.Context, t executor.Task) *fsm.TestReport {
	f, err := left(t, executor.JUnitFile, k.limits.filled().Reports)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var sum junit.Reports
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
	return sum.Report()
}
