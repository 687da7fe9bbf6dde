// Package supervise runs the steps of a job, one after the other, as the job's
// first process: in a container as PID 1 (Main), or within narwhal's own process
// for the process executor (Run). It owns how a step is started, bounded in time,
// stopped and cleaned up after, the packages it wants first, and the journal from
// which a restarted node reads what happened. It doesn't own where a job runs,
// what its environment is, or what becomes of its result.
//
// Invariant: the journal of a run that came to its end ends with a record that
// carries the outcome, and by then every process that the steps left behind in
// their sessions has been killed.
//
// Start reading at Run.
package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Task is a job as its first process needs it. It travels as JSON.
type Task struct {
	Dir   string   `json:"dir"` // where steps run; it must be there
	Env   []string `json:"env"` // KEY=VALUE, of every step; the later one counts
	Steps []Step   `json:"steps"`
	// Timeout bounds all the steps together; 0 doesn't.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Grace is what a step gets between TERM and KILL; DefaultGrace where it is 0.
	Grace time.Duration `json:"grace,omitempty"`
	// Shell is looked up in the PATH of Env; "sh" where it is empty.
	Shell string `json:"shell,omitempty"`
	// Where names where the steps run in messages, such as "image alpine".
	Where string `json:"where,omitempty"`
	// Install lets dependencies be installed; otherwise they must be in PATH.
	Install bool `json:"install,omitempty"`
	// LogLimit is in bytes; joblog.DefaultLimit where it is 0.
	LogLimit int64 `json:"log_limit,omitempty"`
	// Nice is added to this process's own; OOMScore is the steps' oom_score_adj.
	// Both are left alone where they may not be changed.
	Nice     int `json:"nice,omitempty"`
	OOMScore int `json:"oom_score,omitempty"`
	// MemoryLimit is in words, such as "256 MiB": of a container, whose steps may be
	// killed for going beyond it.
	MemoryLimit string `json:"memory_limit,omitempty"`
	// Marks are entries of Env that together no other job has. By them processes
	// are found that left their session. None are looked for where it is empty.
	Marks []string `json:"marks,omitempty"`
}

// Step is one sh -e.
type Step struct {
	Name         string        `json:"name"`
	Command      []string      `json:"command"` // pieces of shell, run one after the other
	Dependencies []string      `json:"dependencies,omitempty"`
	Env          []string      `json:"env,omitempty"` // laid over the task's
	Timeout      time.Duration `json:"timeout,omitempty"`
}

// DefaultGrace is what a step gets between TERM and KILL where nothing else is
// said.
const DefaultGrace = 10 * time.Second

// The files of an attempt's folder.
const (
	SpecFile    = "spec.json"
	LogFile     = "log"
	JournalFile = "journal"
)

// WriteSpec leaves t in the folder dir for Main.
func WriteSpec(dir string, t Task) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	// Readable by all: the container's user is not ours, and the folder is closed.
	if err := os.WriteFile(filepath.Join(dir, SpecFile), data, 0o644); err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	return nil
}

func readSpec(dir string) (Task, error) {
	var t Task
	data, err := os.ReadFile(filepath.Join(dir, SpecFile))
	if err != nil {
		return t, fmt.Errorf("read spec: %w", err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("read spec: %w", err)
	}
	return t, nil
}

func (t *Task) grace() time.Duration {
	if t.Grace > 0 {
		return t.Grace
	}
	return DefaultGrace
}

func (t *Task) where() string {
	if t.Where != "" {
		return t.Where
	}
	return "this machine"
}
