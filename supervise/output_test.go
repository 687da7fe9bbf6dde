package supervise_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// TestEndlessOutput prints a gigabyte, in lines and without any, here and from a
// satellite.
func TestEndlessOutput(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	j := newJob(t, "yes 0123456789012345678901234567890123456789 | head -c 1000000000", "head -c 1000000000 /dev/zero", "head -c 300000000 /dev/zero", "echo later")
	child := j.withSatellite()
	j.task.Steps[2].Satellite = "sat"
	j.task.LogLimit = 8 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 30<<20 {
		t.Errorf("%d MiB more memory", grown>>20)
	}
	info, err := os.Stat(j.log())
	if err != nil || info.Size() > j.task.LogLimit+1000 {
		t.Errorf("the log has %d bytes, %v", info.Size(), err)
	}
	lines, err := joblog.Read(j.log(), 0, 0)
	if err != nil || !strings.Contains(lines[len(lines)-1].Text, "limit of 8 MiB") {
		t.Errorf("the last line is %+v, %v", lines[len(lines)-1], err)
	}
	ends(t, child)
}

// TestOutputWithoutLines checks that what has no line ends is cut, not gathered.
func TestOutputWithoutLines(t *testing.T) {
	j := newJob(t, "head -c 3000000 /dev/zero | tr '\\0' x", "head -c 3000000 /dev/zero | tr '\\0' y")
	j.task.Steps[1].Parallel = true
	j.task.SecretValues = map[string]string{"A": "yyyyyyyy"}
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	lines, err := joblog.Read(j.log(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var xs, ys, stars int
	for _, l := range lines {
		switch l.Step {
		case 0:
			xs += strings.Count(l.Text, "x")
		case 1:
			ys += strings.Count(l.Text, "y")
			stars += strings.Count(l.Text, "***")
		}
	}
	if xs != 3_000_000 || ys != 0 || stars != 1 {
		t.Errorf("%d x, %d y, %d stars", xs, ys, stars)
	}
}
