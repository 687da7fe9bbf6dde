package supervise

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Proc is a process of this machine.
type Proc struct {
	Pid, Group, Session int
	Start               uint64 // clock ticks since boot
	zombie              bool
}

// Processes lists what runs on this machine, but for kernel threads, zombies and
// this process itself.
func Processes() ([]Proc, error) {
	names, err := readNames("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	self := os.Getpid()
	var procs []Proc
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == self {
			continue
		}
		if p, ok := stat(pid); ok && p.Session != 0 && !p.zombie {
			procs = append(procs, p)
		}
	}
	return procs, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// stat reads /proc/PID/stat. ok is false where there is no such process.
func stat(pid int) (p Proc, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	// The name stands in parentheses and may hold anything, parentheses too.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return p, false
	}
	group, err1 := strconv.Atoi(fields[2])
	session, err2 := strconv.Atoi(fields[3])
	start, err3 := strconv.ParseUint(fields[19], 10, 64)
	p = Proc{Pid: pid, Group: group, Session: session, Start: start, zombie: fields[0] == "Z" || fields[0] == "X"}
	return p, err1 == nil && err2 == nil && err3 == nil
}

// Environ is the environment with which the process was executed; nil where it
// can't be read.
func (p Proc) Environ() []string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid) + "/environ")
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// Kill ends the process at once, unless its number is another's by now.
func (p Proc) Kill() {
	if now, ok := stat(p.Pid); ok && now.Start == p.Start {
		_ = syscall.Kill(p.Pid, syscall.SIGKILL)
	}
}

// KillAll kills every process that match picks, and what those fork while it
// goes on. It gives how many it killed.
func KillAll(match func(Proc) bool) (killed int, err error) {
	seen := make(map[Proc]bool)
	for range 10 {
		procs, err := Processes()
		if err != nil {
			return killed, err
		}
		fresh := false
		for _, p := range procs {
			if !seen[p] && match(p) {
				p.Kill()
				seen[p], fresh = true, true
			}
		}
		if !fresh {
			break
		}
	}
	return len(seen), nil
}

// Marked matches the processes whose environment holds every one of marks.
func Marked(marks []string) func(Proc) bool {
	return func(p Proc) bool {
		environ := p.Environ()
		for _, mark := range marks {
			if !slices.Contains(environ, mark) {
				return false
			}
		}
		return len(environ) > 0
	}
}

// Recorded matches the processes of the sessions that a journal names, if the
// machine has not been restarted since.
func Recorded(records []Record) func(Proc) bool {
	sessions := make(map[int]uint64)
	for _, r := range records {
		if r.Kind == RecordProcess && r.Pid > 1 && r.Boot == boot() && r.Boot != "" {
			sessions[r.Pid] = r.Start
		}
	}
	return func(p Proc) bool {
		start, ok := sessions[p.Session]
		if !ok || p.Start < start {
			return false
		}
		// A session keeps its number from being given out again, so a leader that
		// is there must be the recorded one, or all of the session has ended.
		leader, alive := stat(p.Session)
		return !alive || leader.Start == start
	}
}

// Boot names the time since the machine was started; it is empty where that can't be told.
func Boot() string { return boot() }

var boot = sync.OnceValue(func() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
})

// killOthers kills all that runs in the container whose first process this is, and
// returns when nothing does, or soon: there may be some that it may not kill.
func killOthers() {
	for until := time.Now().Add(drainFor); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if err := syscall.Kill(-1, syscall.SIGKILL); err != nil {
			return
		}
	}
}
