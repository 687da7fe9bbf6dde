package supervise_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// cpu is the processor time of this process and the children that it has waited
// for.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var total int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		total += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(total)
}

// measure reports the processor time an operation beside its time.
func measure(b *testing.B, op func()) {
	before := cpu(b)
	for b.Loop() {
		op()
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e3, "cpu-µs/op")
}

// BenchmarkJob compares a job of one step with the bare shell that it runs.
func BenchmarkJob(b *testing.B) {
	b.Run("sh", func(b *testing.B) {
		measure(b, func() {
			cmd := exec.Command("/bin/sh", "-e", "-c", "true")
			cmd.Env = []string{"PATH=/usr/bin:/bin"}
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("job", func(b *testing.B) {
		dir := b.TempDir()
		task := supervise.Task{
			Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, Nice: 5, OOMScore: 500,
			Steps: []supervise.Step{{Name: "true", Command: []string{"true"}}},
		}
		measure(b, func() {
			o, err := supervise.Run(b.Context(), task, filepath.Join(dir, "log"), filepath.Join(dir, "journal"))
			if err != nil || o.Status != fsm.Passed {
				b.Fatal(o, err)
			}
		})
	})
}

// BenchmarkOutput compares 100 MB of a job's output with the same written to a
// file by the same program.
func BenchmarkOutput(b *testing.B) {
	const bytes = 100_000_000
	const command = "yes 'ok  github.com/codepr/narwhal/supervise 1.192s: a line as builds print them' | head -c 100000000"
	b.Run("file", func(b *testing.B) {
		b.SetBytes(bytes)
		measure(b, func() {
			path := filepath.Join(b.TempDir(), "file")
			if err := exec.Command("/bin/sh", "-c", command+" > "+path).Run(); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("job", func(b *testing.B) {
		b.SetBytes(bytes)
		measure(b, func() {
			dir := b.TempDir()
			task := supervise.Task{
				Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, LogLimit: 1 << 40,
				Steps: []supervise.Step{{Name: "yes", Command: []string{command}}},
			}
			o, err := supervise.Run(b.Context(), task, filepath.Join(dir, "log"), filepath.Join(dir, "journal"))
			if err != nil || o.Status != fsm.Passed {
				b.Fatal(o, err)
			}
			if err := os.Remove(filepath.Join(dir, "log")); err != nil {
				b.Fatal(err)
			}
		})
	})
}
