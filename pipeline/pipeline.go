// Package pipeline owns the meaning of a narwhal.yml: which keys there are,
// what each of them defaults to, and what is wrong with a bad file.
//
// It doesn't own what becomes of it: package fsm keeps jobs, the scheduler
// places them and the runner runs their steps. Variables such as ${VAR} are
// not expanded here.
//
// Invariant: Parse is a function of its arguments alone. The same bytes give
// the same Pipeline or the same Errors on every node and in every process, no
// input makes it panic, and its work is bounded by MaxSize and the limits in
// limits.go, whatever the file's anchors multiply to.
//
// Start reading at Parse; read.go walks the file key by key, node.go is what it
// walks with, document.go is what guards both from hostile bytes.
package pipeline

import "time"

// Pipeline is what a file asks for: at least one job, in the order of the file.
type Pipeline struct {
	// Name is what people see; empty where the file has none.
	Name string `json:"name,omitempty"`
	Jobs []Job  `json:"jobs,omitempty"`
}

// Job is what is placed on one node. All defaults are filled in.
type Job struct {
	// Name is unique in the pipeline and matches [A-Za-z0-9][A-Za-z0-9_.-]{0,62}.
	Name string `json:"name,omitempty"`
	// Needs names jobs of the same pipeline. There are no cycles.
	Needs     []string          `json:"needs,omitempty"`
	Image     string            `json:"image,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Resources Resources         `json:"resources,omitempty"`
	// Timeout bounds the whole job; it is never zero.
	Timeout time.Duration `json:"timeout,omitempty"`
	Clone   Clone         `json:"clone,omitempty"`
	// Steps run in this order. There is at least one.
	Steps []Step `json:"steps,omitempty"`
	// Priority is from -100 to 100; higher goes first.
	Priority   int      `json:"priority,omitempty"`
	OnNodeLoss NodeLoss `json:"on_node_loss,omitempty"`
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

// Step is a command in a job.
type Step struct {
	// Name is what people see: never empty, not necessarily unique.
	Name string `json:"name,omitempty"`
	// Command is one or more pieces of shell, each possibly of several lines,
	// to be run one after the other by one sh -e.
	Command []string `json:"command,omitempty"`
	// Dependencies are packages to install before Command runs.
	Dependencies []string `json:"dependencies,omitempty"`
	// Env is the step's own; it is to be laid over the job's.
	Env map[string]string `json:"env,omitempty"`
	// Timeout is zero where only the job's applies.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// NodeLoss is what becomes of a running job when its node dies.
type NodeLoss string

// The values of on_node_loss.
const (
	NodeLossRerun NodeLoss = "rerun" // the default: run again elsewhere
	NodeLossFail  NodeLoss = "fail"  // never twice at a time, so never again
)

// Options are the operator's, not the file's.
type Options struct {
	// DefaultImage is for files that name none; empty means ubuntu.
	DefaultImage string
}

// Parse reads a file of this name, which only serves to locate errors. The
// error is nil or an Errors with all that is wrong with the file; the Pipeline
// is empty then.
func Parse(name string, data []byte, opts Options) (Pipeline, error) {
	if name == "" {
		name = "narwhal.yml"
	}
	root, errs := readDocument(name, data)
	if len(errs) > 0 {
		return Pipeline{}, errs
	}
	r := reader{file: name}
	p := r.pipeline(root, opts)
	if errs := r.report(); len(errs) > 0 {
		return Pipeline{}, errs
	}
	return p, nil
}
