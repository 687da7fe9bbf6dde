package executor_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// TestStopOnAFullDisk has a job fill the disk that its own records are on, to the last
// block of its journal: it is stopped all the same, and leaves room.
func TestStopOnAFullDisk(t *testing.T) {
	k := newDocker(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("narwhal-test", disk, "tmpfs", 0, "size=16m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	k.attempts = disk
	task := k.task(t, "echo up; cat /dev/zero > fill || true; cat /dev/zero >> /narwhal/job/journal || true; sleep 600")
	run := k.start(t, task)
	until(t, task, "up")
	filled := func() bool {
		var s syscall.Statfs_t
		if err := syscall.Statfs(disk, &s); err != nil {
			t.Fatal(err)
		}
		return s.Bfree == 0
	}
	// While its last block has room the journal takes a short record on a full disk.
	journalFilled := func() bool {
		info, err := os.Stat(filepath.Join(task.Dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()%int64(os.Getpagesize()) == 0
	}
	for deadline := time.Now().Add(time.Minute); !filled() || !journalFilled(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the disk does not fill up")
		}
	}
	stop(t, run, 0)
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "")
	if filled() {
		t.Error("the disk is still full")
	}
}
