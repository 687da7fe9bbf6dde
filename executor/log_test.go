package executor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/supervise"
)

// TestLogThatTheJobMadeLongIsCut: a job can write to the file of its log itself, past
// all that holds its output to the limit. No more than that stays on the disk.
func TestLogThatTheJobMadeLongIsCut(t *testing.T) {
	const limit = 1 << 20
	for name, open := range map[string]func(*testing.T) (k *kit, log string){
		"process": func(t *testing.T) (*kit, string) {
			return newProcess(t, func(c *executor.ProcessConfig) { c.LogLimit = limit }), "../log"
		},
		"docker": func(t *testing.T) (*kit, string) {
			return newDocker(t, func(c *executor.DockerConfig) { c.LogLimit = limit }), "/narwhal/job/log"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, log := open(t)
			task := k.task(t, "echo first", "dd if=/dev/zero of="+log+" bs=1024k count=4 seek=1 conv=notrunc 2>/dev/null")
			o := k.run(t, task)
			expect(t, o, fsm.Passed, "", "")
			path := filepath.Join(task.Dir, supervise.LogFile)
			info, err := os.Stat(path)
			if err != nil || info.Size() > limit+joblog.Slack {
				t.Fatalf("%d bytes are left, %v", info.Size(), err)
			}
			if o.LogBytes != info.Size() {
				t.Errorf("its log is said to have %d bytes, and has %d", o.LogBytes, info.Size())
			}
			lines, err := joblog.Read(path, 0, 0)
			if err != nil || !strings.Contains(lines[len(lines)-1].Text, "limit of 1 MiB") || !strings.Contains(printed(t, task), "first\n") {
				t.Errorf("%d lines, %v", len(lines), err)
			}
		})
	}
}

// TestLogOfALostJobIsCut: there is no end at which it could have been.
func TestLogOfALostJobIsCut(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	k := newProcess(t, func(c *executor.ProcessConfig) { c.LogLimit = limit })
	// What it prints has to be in the log before the log is made long, or it comes behind all that is read.
	task := k.task(t, "echo up; until grep -q 'up$' ../log; do sleep 0.05; done; dd if=/dev/zero of=../log bs=1024k count=4 seek=1 conv=notrunc 2>/dev/null; touch ../long; sleep 600")
	k.ready = func() { untilThere(t, filepath.Join(task.Dir, "long")) }
	k.startElsewhere(t, task)
	if _, err := k.ex.Adopt(t.Context(), task); err == nil {
		t.Fatal("it was adopted")
	}
	if info, err := os.Stat(filepath.Join(task.Dir, supervise.LogFile)); err != nil || info.Size() > limit+joblog.Slack {
		t.Errorf("%d bytes are left, %v", info.Size(), err)
	}
}
