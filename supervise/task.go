// Package supervise runs the steps of a job as the job's first process: in a
// container as PID 1 (Main), with other containers for the steps that have an image
// of their own (Satellite), or within narwhal's own process for the process
// executor (Run). It owns the order of the steps, how one is started, bounded in
// time, tried again, stopped and cleaned up after, what it needs first, what it
// keeps, and the journal from which a restarted node reads what happened. It
// doesn't own where a job runs, what its environment is, or what becomes of its
// result.
//
// Invariant: the journal of a run that came to its end ends with a record that
// carries the outcome, and by then every process that the steps left behind in
// their sessions has been killed. The value of a secret is in the environment of
// the steps that name it, and in nothing that this package writes.
//
// Start reading at Run.
package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
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
	// Shell is looked up in the PATH of Env; "sh" where it is empty. It is of steps
	// that name none of their own.
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
	MemoryBytes int64  `json:"memory_bytes,omitempty"` // the same as a number
	// Memory tells what is said of the container's own group where the job has
	// another: its peak in bytes, and how many processes were killed. It may be nil.
	Memory func() (peak int64, kills int) `json:"-"`
	// Marks are entries of Env that together no other job has. By them processes
	// are found that left their session. None are looked for where it is empty.
	Marks []string `json:"marks,omitempty"`
	// SecretValues are those that steps name, by name. They never travel with the
	// rest: Await is told them by Begin.
	SecretValues map[string]string `json:"-"`
	// Job names the job in messages, as commands take it.
	Job string `json:"job,omitempty"`
	// Desk takes decisions on manual steps beside the control socket; nil where
	// nobody holds it.
	Desk *Desk `json:"-"`
	// SocketDir is a folder for ControlSocket and the satellites' sockets, shared
	// by all of the job's containers; empty for none.
	SocketDir string `json:"socket_dir,omitempty"`
	// Services are waited for before the first step.
	Services []Service `json:"services,omitempty"`
	// Restore is unpacked, in this order, before the first step.
	Restore []Restore `json:"restore,omitempty"`
	// Caches are packed when all steps have passed.
	Caches    []Cache    `json:"caches,omitempty"`
	Artifacts *Artifacts `json:"artifacts,omitempty"`
	// CacheLimit is how many bytes the archive of a cache may have, ArtifactsLimit that of
	// artifacts, and of test reports; 0 is any.
	CacheLimit     int64 `json:"cache_limit,omitempty"`
	ArtifactsLimit int64 `json:"artifacts_limit,omitempty"`
}

// Step is one shell.
type Step struct {
	Name         string   `json:"name"`
	Command      []string `json:"command"` // pieces of shell, run one after the other
	Dependencies []string `json:"dependencies,omitempty"`
	Env          []string `json:"env,omitempty"` // laid over the task's
	// Secrets name values that the step finds in its environment, over all else.
	Secrets []string `json:"secrets,omitempty"`
	// Timeout bounds each try; 0 doesn't.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Parallel says that the step waits for Needs alone, and not for all steps
	// above it. Needs are places in Steps, each smaller than the step's own.
	Parallel bool           `json:"parallel,omitempty"`
	Needs    []int          `json:"needs,omitempty"`
	On       pipeline.RunOn `json:"on,omitempty"`
	// Manual waits for a Decision before the step begins, which is no part of the
	// step's time. Lock is what the decision's Key must open to approve it; empty is
	// none.
	Manual bool   `json:"manual,omitempty"`
	Lock   string `json:"lock,omitempty"`
	// Skip says why the step is left out; empty where it isn't.
	Skip string `json:"skip,omitempty"`
	// Missing is why the step can't be run at all, when its turn comes; nil where it can.
	Missing *Missing `json:"missing,omitempty"`
	// Retry may name failure, timeout and oom; nil is never.
	Retry *pipeline.Retry `json:"retry,omitempty"`
	// AllowFailure lets what comes after it go on as if it had passed.
	AllowFailure bool           `json:"allow_failure,omitempty"`
	Shell        pipeline.Shell `json:"shell,omitempty"`
	// Satellite is the name that Satellite was given, in the container in which the
	// step runs; empty is this one.
	Satellite string `json:"satellite,omitempty"`
	// Where names the satellite's container in messages; the task's where it is empty.
	Where string `json:"where,omitempty"`
}

// Missing says that a step's container is not there.
type Missing struct {
	Cause   fsm.Cause `json:"cause,omitempty"` // image_pull or config
	Message string    `json:"message"`
}

// Service runs beside the job.
type Service struct {
	Name    string        `json:"name"`              // a host name
	Port    int           `json:"port"`              // TCP; it takes connections once the service is ready
	Timeout time.Duration `json:"timeout,omitempty"` // DefaultReady where it is 0
}

// DefaultReady is how long a service is waited for where nothing else is said.
const DefaultReady = time.Minute

// DefaultGrace is what a step gets between TERM and KILL where nothing else is
// said.
const DefaultGrace = 10 * time.Second

// The files of an attempt's folder.
const (
	SpecFile    = "spec.json"
	LogFile     = "log"
	JournalFile = "journal"
	SecretsFile = "secrets" // of earlier versions: a JSON object of name and value; emptied before any step runs
	InDir       = "in"      // archives to restore
	OutDir      = "out"     // archives that were made; those that are there are whole
	SocketsDir  = "sock"    // the usual SocketDir
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
