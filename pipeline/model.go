package pipeline

import "time"

// Pipeline is what a commit's file asks for: at least one job, in the order of
// the file, with matrices written out and every ${…} replaced.
type Pipeline struct {
	// Name is what people see; empty where the file has none.
	Name string `json:"name,omitempty"`
	Jobs []Job  `json:"jobs,omitempty"`
	// Schedules are those of the commit's branch.
	Schedules []Schedule `json:"schedules,omitempty"`
}

// Job is what is placed on one node. All defaults are filled in.
type Job struct {
	// Name is unique in the pipeline: [A-Za-z0-9][A-Za-z0-9_.-]{0,62}, and for one
	// of a matrix the values behind it, as in "test (1.26, 17)".
	Name string `json:"name,omitempty"`
	// Of is the job's name in the file where a matrix made several of it.
	Of     string            `json:"of,omitempty"`
	Matrix map[string]string `json:"matrix,omitempty"`
	// Needs names jobs of the same pipeline: all that a matrix made of one. There
	// are no cycles.
	Needs []string `json:"needs,omitempty"`
	When  When     `json:"when,omitempty"`
	// Skip says why the job is left out: its when doesn't fit the commit.
	Skip      string            `json:"skip,omitempty"`
	Image     string            `json:"image,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Secrets   []string          `json:"secrets,omitempty"` // names; given to every step
	Labels    map[string]string `json:"labels,omitempty"`
	Resources Resources         `json:"resources,omitempty"`
	// Timeout bounds the whole job; it is never zero.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Retry is nil where the file says nothing: image_pull is then tried again
	// twice, and node_lost once, as it is at most.
	Retry *Retry `json:"retry,omitempty"`
	Clone Clone  `json:"clone,omitempty"`
	// Priority is from -100 to 100; higher goes first.
	Priority     int          `json:"priority,omitempty"`
	OnNodeLoss   NodeLoss     `json:"on_node_loss,omitempty"`
	Concurrency  *Concurrency `json:"concurrency,omitempty"`
	Services     []Service    `json:"services,omitempty"`
	Cache        []Cache      `json:"cache,omitempty"`
	Artifacts    *Artifacts   `json:"artifacts,omitempty"`
	AllowFailure bool         `json:"allow_failure,omitempty"`
	// AllowErrors goes with AllowFailure: what could not be run, or not to its end, may
	// be so too. Plans of the versions before it don't have it and stay what they were;
	// a version that doesn't know it stops at it, instead of deciding otherwise.
	AllowErrors bool `json:"allow_errors,omitempty"`
	// Steps run in this order, but for those that are Parallel. There is at least one.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a command in a job.
type Step struct {
	// Name is what people see: never empty, unique where a step needs it.
	Name string `json:"name,omitempty"`
	// Parallel says that the step waits for Needs alone, and not for all steps
	// above it.
	Parallel bool `json:"parallel,omitempty"`
	// Needs are places in Steps, each smaller than the step's own.
	Needs []int `json:"needs,omitempty"`
	When  When  `json:"when,omitempty"`
	// Skip says why the step is left out: its when doesn't fit the commit.
	Skip string `json:"skip,omitempty"`
	// Image is empty where the step runs in the job's own container.
	Image string `json:"image,omitempty"`
	// Command is one or more pieces of shell, each possibly of several lines,
	// to be run one after the other by one Shell.
	Command []string `json:"command,omitempty"`
	// Dependencies are packages to install before Command runs.
	Dependencies []string `json:"dependencies,omitempty"`
	// Env is the step's own; it is to be laid over the job's.
	Env     map[string]string `json:"env,omitempty"`
	Secrets []string          `json:"secrets,omitempty"` // beside the job's
	// Timeout is zero where only the job's applies.
	Timeout      time.Duration `json:"timeout,omitempty"`
	Retry        *Retry        `json:"retry,omitempty"` // within the attempt; nil for never
	AllowFailure bool          `json:"allow_failure,omitempty"`
	Shell        Shell         `json:"shell,omitempty"` // empty is sh
}

// When is what is left of a when once the commit is known.
type When struct {
	On RunOn `json:"on,omitempty"`
	// Manual waits for a person, once what it needs allows it. A step that does is
	// called by its name.
	Manual bool `json:"manual,omitempty"`
}

// RunOn says what must have become of what came before.
type RunOn string

// The values of RunOn.
const (
	OnSuccess RunOn = ""           // all passed; the default
	OnFailure RunOn = "on_failure" // one failed
	Always    RunOn = "always"
)

// Retry says which ends of an attempt are tried again.
type Retry struct {
	Max int `json:"max,omitempty"` // attempts beside the first; 0 is never
	// When are failure classes. Empty is all but canceled and config.
	When []Class `json:"when,omitempty"`
	// ExitCodes restricts failure to these; empty is all.
	ExitCodes []int `json:"exit_codes,omitempty"`
	// Backoff is waited before the first retry, and twice as long before each next.
	Backoff time.Duration `json:"backoff,omitempty"`
}

// Class is a failure class.
type Class string

// The classes that a retry can name.
const (
	ClassFailure   Class = "failure"
	ClassTimeout   Class = "timeout"
	ClassOOM       Class = "oom"
	ClassImagePull Class = "image_pull"
	ClassNodeLost  Class = "node_lost"
	ClassAlways    Class = "always" // all of them
)

// Concurrency bounds how many run at a time in the whole cluster.
type Concurrency struct {
	Group string `json:"group,omitempty"`
	Limit int    `json:"limit,omitempty"` // never zero
	// CancelInProgress ends what older builds have in the group.
	CancelInProgress bool `json:"cancel_in_progress,omitempty"`
	// PerBuild counts builds and not jobs: it stood at the top of the file.
	PerBuild bool `json:"per_build,omitempty"`
}

// Service runs beside a job, reachable by its name.
type Service struct {
	Name  string            `json:"name,omitempty"` // a host name
	Image string            `json:"image,omitempty"`
	Env   map[string]string `json:"env,omitempty"`
	// Command are the arguments in the place of the image's; empty keeps these.
	Command []string `json:"command,omitempty"`
	Ready   *Ready   `json:"ready,omitempty"` // nil is ready once it runs
}

// Ready is how a service is known to be up: one of Port and Command.
type Ready struct {
	Port    int           `json:"port,omitempty"`    // TCP; takes connections
	Command []string      `json:"command,omitempty"` // arguments; exits with 0 in the service's container
	Timeout time.Duration `json:"timeout,omitempty"` // never zero
}

// Cache is what is kept from one build to the next.
type Cache struct {
	// Key may hold ${checksum:PATH}, which the node replaces that has the files.
	Key         string      `json:"key,omitempty"`
	RestoreKeys []string    `json:"restore_keys,omitempty"` // prefixes, tried in order
	Paths       []string    `json:"paths,omitempty"`
	Policy      CachePolicy `json:"policy,omitempty"`
}

// CachePolicy says what is done with a cache.
type CachePolicy string

// The values of policy.
const (
	CachePullPush CachePolicy = "" // the default
	CachePull     CachePolicy = "pull"
	CachePush     CachePolicy = "push"
)

// Artifacts are the files that a job leaves.
type Artifacts struct {
	Paths    []string      `json:"paths,omitempty"`     // globs, from the workspace
	Exclude  []string      `json:"exclude,omitempty"`   // globs
	When     RunOn         `json:"when,omitempty"`      // of the job's steps
	ExpireIn time.Duration `json:"expire_in,omitempty"` // zero leaves it to the cluster
	JUnit    []string      `json:"junit,omitempty"`     // globs of reports
}

// Shell runs commands.
type Shell string

// The values of shell.
const (
	ShellSh   Shell = ""     // sh -e
	ShellBash Shell = "bash" // bash -eo pipefail
)

// Input is asked for when a build is started by hand.
type Input struct {
	Name        string   `json:"name,omitempty"`
	Type        string   `json:"type,omitempty"` // "string", "number", "boolean" or "choice"
	Default     string   `json:"default,omitempty"`
	HasDefault  bool     `json:"has_default,omitempty"`
	Required    bool     `json:"required,omitempty"`
	Options     []string `json:"options,omitempty"`
	Description string   `json:"description,omitempty"`
}

// Schedule starts builds by the clock.
type Schedule struct {
	Cron     string            `json:"cron,omitempty"`     // five fields
	Timezone string            `json:"timezone,omitempty"` // of the IANA database; never empty
	Branch   string            `json:"branch,omitempty"`   // never empty
	Inputs   map[string]string `json:"inputs,omitempty"`
}

// Resources is what is reserved on the node, and the hard limit.
type Resources struct {
	CPU    int64 `json:"cpu,omitempty"`    // milli-CPU, never zero
	Memory int64 `json:"memory,omitempty"` // bytes, never zero
	Disk   int64 `json:"disk,omitempty"`   // bytes; zero reserves none
}

// Clone says how a job's checkout is made.
type Clone struct {
	// Depth is the number of commits of history; zero is all of it.
	Depth      int  `json:"depth,omitempty"`
	Submodules bool `json:"submodules,omitempty"`
	LFS        bool `json:"lfs,omitempty"`
	// Skip leaves the workspace empty.
	Skip bool `json:"skip,omitempty"`
}

// NodeLoss is what becomes of a running job when its node dies.
type NodeLoss string

// The values of on_node_loss.
const (
	NodeLossRerun NodeLoss = "rerun" // the default: run again elsewhere
	NodeLossFail  NodeLoss = "fail"  // never twice at a time, so never again
)
