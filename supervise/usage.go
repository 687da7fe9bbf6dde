package supervise

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// usage is what processes took.
type usage struct {
	cpu  time.Duration // user and system
	peak int64         // bytes, of the largest one; 0 where that had no more than this process
}

func (u *usage) add(more usage) {
	u.cpu += more.cpu
	u.peak = max(u.peak, more.peak)
}

// A container sees its own control group, of version 2 or 1, at these places.
var (
	killFiles = []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"}
	peakFiles = []string{"/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"}
)

// oomKills counts the processes of this container that were killed for want of
// memory: the engine's word on it may come after that of the container's end.
func oomKills() int {
	for line := range strings.Lines(firstOf(killFiles)) {
		if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(text))
			return n
		}
	}
	return 0
}

// peakMemory is the most that this container has used at a time, in bytes; 0
// where the kernel doesn't tell.
func peakMemory() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(firstOf(peakFiles)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ownPeak is the most memory that this process has had since it was executed, in bytes.
func ownPeak() int64 {
	for line := range strings.Lines(firstOf([]string{"/proc/self/status"})) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// firstOf is what the first of the files that is there holds.
func firstOf(paths []string) string {
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			return string(data)
		}
	}
	return ""
}

// tooMuch is how a step ends that was killed for want of memory.
func tooMuch(end ending, limit string, peak int64) ending {
	end.cause = fsm.CauseOOM
	detail := end.message
	if peak > 0 {
		detail = fmt.Sprintf("at its peak %.1f MiB; %s", float64(peak)/(1<<20), detail)
	}
	end.message = fmt.Sprintf("it used more than its memory limit of %s (%s)", limit, detail)
	return end
}
