package api

import (
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Build is a build as the API shows it.
type Build struct {
	ID         fsm.BuildID       `json:"id"`
	Repo       string            `json:"repo"`
	SHA        string            `json:"sha"`
	Ref        string            `json:"ref"`
	Branch     string            `json:"branch,omitempty"`
	Event      fsm.Event         `json:"event"`
	Message    string            `json:"message,omitempty" doc:"The commit's"`
	Author     string            `json:"author,omitempty"`
	Status     fsm.Status        `json:"status" enum:"queued,running,passed,failed,errored,canceled"`
	Cause      fsm.Cause         `json:"cause,omitempty"`
	Reason     string            `json:"reason,omitempty" doc:"Why it did not pass, in words"`
	RetryOf    fsm.BuildID       `json:"retry_of,omitempty"`
	Inputs     map[string]string `json:"inputs,omitempty"`
	CanceledBy string            `json:"canceled_by,omitempty"`
	JobsTotal  uint32            `json:"jobs_total" doc:"How many jobs it has, its plan included"`
	JobsOpen   uint32            `json:"jobs_open" doc:"How many of them have not ended"`
	Bundle     string            `json:"bundle,omitempty" doc:"The SHA-256 of what narwhal push brought"`
	CreatedAt  time.Time         `json:"created_at"`
	StartedAt  time.Time         `json:"started_at,omitzero"`
	EndedAt    time.Time         `json:"ended_at,omitzero"`
	Jobs       []Job             `json:"jobs,omitempty" doc:"With a single build only"`
}

// Job is a job as the API shows it.
type Job struct {
	ID         fsm.JobID           `json:"id" example:"42.1"`
	Build      fsm.BuildID         `json:"build"`
	Name       string              `json:"name"`
	Kind       fsm.JobKind         `json:"kind" enum:"plan,run"`
	Repo       string              `json:"repo"`
	Status     fsm.Status          `json:"status" enum:"blocked,held,queued,assigned,running,passed,failed,errored,canceled,skipped"`
	Cause      fsm.Cause           `json:"cause,omitempty"`
	Reason     string              `json:"reason,omitempty" doc:"Why it did not pass, in words"`
	Needs      []string            `json:"needs,omitempty" doc:"The names of the jobs it needs"`
	Image      string              `json:"image,omitempty"`
	Labels     map[string]string   `json:"labels,omitempty"`
	Resources  *pipeline.Resources `json:"resources,omitempty" doc:"CPU in thousandths, memory and disk in bytes"`
	Steps      []string            `json:"steps,omitempty" doc:"Their names, in order"`
	Priority   int                 `json:"priority,omitempty"`
	Node       fsm.NodeID          `json:"node,omitempty" doc:"Where the current attempt lies or lay"`
	CanceledBy string              `json:"canceled_by,omitempty"`
	ApprovedBy string              `json:"approved_by,omitempty"`
	Of         string              `json:"of,omitempty" doc:"Its name in the file, where a matrix made several of it"`
	Matrix     map[string]string   `json:"matrix,omitempty"`
	Allowed    bool                `json:"allow_failure,omitempty" doc:"That it fails or errors is allowed: the build goes on"`
	Group      string              `json:"group,omitempty" doc:"Its concurrency group"`
	Waiting    []string            `json:"waiting,omitempty" doc:"Steps that wait for a person, and on which nobody has decided"`
	Attempts   []Attempt           `json:"attempts,omitempty"`
	NotBefore  time.Time           `json:"not_before,omitzero"`
	QueuedAt   time.Time           `json:"queued_at,omitzero"`
	StartedAt  time.Time           `json:"started_at,omitzero"`
	EndedAt    time.Time           `json:"ended_at,omitzero"`
}

// Attempt is one placement of a job.
type Attempt struct {
	N          int                `json:"n"`
	Node       fsm.NodeID         `json:"node"`
	NodeName   string             `json:"node_name,omitempty"`
	Status     fsm.Status         `json:"status"`
	Cause      fsm.Cause          `json:"cause,omitempty"`
	ExitCode   int                `json:"exit_code,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Steps      []fsm.StepResult   `json:"steps,omitempty"`
	LogBytes   int64              `json:"log_bytes,omitempty"`
	PeakMemory int64              `json:"peak_memory,omitempty" doc:"Bytes, of all its containers"`
	CPUTime    time.Duration      `json:"cpu_time,omitempty" doc:"Nanoseconds"`
	Tests      *fsm.TestReport    `json:"tests,omitempty"`
	Artifacts  *fsm.Artifacts     `json:"artifacts,omitempty"`
	Decisions  []fsm.StepDecision `json:"decisions,omitempty" doc:"What people said of its manual steps"`
	AssignedAt time.Time          `json:"assigned_at"`
	StartedAt  time.Time          `json:"started_at,omitzero"`
	EndedAt    time.Time          `json:"ended_at,omitzero"`
}

// Node is a node as the API shows it: what the cluster knows of it, and what it
// offers to jobs.
type Node struct {
	ID           fsm.NodeID          `json:"id"`
	Name         string              `json:"name"`
	Alive        bool                `json:"alive"`
	Leader       bool                `json:"leader"`
	Role         string              `json:"role" doc:"voter, nonvoter or none"`
	Addr         string              `json:"addr,omitempty"`
	APIAddr      string              `json:"api_addr,omitempty"`
	Version      string              `json:"version,omitempty"`
	Protocol     uint32              `json:"protocol" doc:"Of the messages between nodes, the newest that it speaks"`
	StateVersion uint32              `json:"state_version" doc:"Of the log's entries, the newest that it can apply; what is newer is held back until all nodes can"`
	Executor     string              `json:"executor,omitempty" doc:"docker or process; empty where it runs no jobs"`
	Labels       map[string]string   `json:"labels,omitempty"`
	DiskFull     bool                `json:"disk_full" doc:"It takes no jobs until there is room"`
	Bucket       *NodeBucket         `json:"bucket,omitempty" doc:"Where it puts blobs; absent where it has none"`
	Drained      bool                `json:"drained"`
	DrainedBy    string              `json:"drained_by,omitempty"`
	DrainUntil   time.Time           `json:"drain_until,omitzero" doc:"What still runs there then is stopped and runs elsewhere; absent: never"`
	Capacity     *pipeline.Resources `json:"capacity,omitempty"`
	Reserved     *pipeline.Resources `json:"reserved,omitempty"`
	Jobs         int                 `json:"jobs" doc:"How many are placed on it"`
	JoinedAt     time.Time           `json:"joined_at,omitzero"`
}

func buildView(b *fsm.Build) Build {
	c := b.Commit
	return Build{
		ID: b.ID, Repo: c.Repo, SHA: c.SHA, Ref: c.Ref, Branch: c.Branch(), Event: c.Event, Message: c.Message, Author: c.Author,
		Status: b.Status, Cause: b.Cause, Reason: b.Message, RetryOf: b.RetryOf, Inputs: b.Inputs, CanceledBy: b.CanceledBy,
		JobsTotal: b.Jobs, JobsOpen: b.Open, Bundle: c.Bundle, CreatedAt: b.CreatedAt, StartedAt: b.StartedAt, EndedAt: b.EndedAt,
	}
}

// buildWithJobs is what is shown of a single build.
func buildWithJobs(s *fsm.State, b *fsm.Build) Build {
	v := buildView(b)
	for j := range s.Jobs(b.ID) {
		v.Jobs = append(v.Jobs, jobView(s, j))
	}
	return v
}

func jobView(s *fsm.State, j *fsm.Job) Job {
	v := Job{
		ID: j.ID, Build: j.ID.Build, Name: j.Name, Kind: j.Kind, Repo: j.Repo, Status: j.Status, Cause: j.Cause, Reason: j.Message,
		Priority: j.Priority, CanceledBy: j.CanceledBy, ApprovedBy: j.ApprovedBy, NotBefore: j.NotBefore, QueuedAt: j.QueuedAt, StartedAt: j.StartedAt, EndedAt: j.EndedAt,
	}
	if spec := j.Spec; spec != nil {
		resources := spec.Resources
		v.Image, v.Labels, v.Resources, v.Needs = spec.Image, spec.Labels, &resources, spec.Needs
		v.Of, v.Matrix = spec.Of, spec.Matrix
		v.Allowed = spec.AllowFailure && (j.Status != fsm.Errored || j.Allowed())
		if spec.Concurrency != nil {
			v.Group = spec.Concurrency.Group
		}
		for i := range spec.Steps {
			v.Steps = append(v.Steps, spec.Steps[i].Name)
		}
	}
	for _, a := range j.Attempts {
		x := Attempt{
			N: a.N, Node: a.Node, Status: a.Status, Cause: a.Cause, ExitCode: a.ExitCode, Reason: a.Message,
			Steps: a.Steps, LogBytes: a.LogBytes, PeakMemory: a.PeakMemory, CPUTime: a.CPUTime, Tests: a.Tests, Artifacts: a.Artifacts, Decisions: a.Decisions, AssignedAt: a.AssignedAt, StartedAt: a.StartedAt, EndedAt: a.EndedAt,
		}
		if n, ok := s.Node(a.Node); ok {
			x.NodeName = n.Name
		}
		v.Node, v.Waiting = a.Node, a.Asks()
		v.Attempts = append(v.Attempts, x)
	}
	return v
}

// nodeViews joins the cluster's members with the nodes of the state.
func nodeViews(s *fsm.State, members []Member) []Node {
	var out []Node
	seen := make(map[fsm.NodeID]bool)
	for _, m := range members {
		v := Node{
			ID: m.ID, Name: m.Name, Alive: m.Alive, Leader: m.Leader, Role: m.Role, Addr: m.Addr, APIAddr: m.APIAddr, Version: m.Version, DiskFull: m.Full, Bucket: m.Bucket,
			Protocol: m.Protocol, StateVersion: m.StateVersion,
		}
		if n, ok := s.Node(m.ID); ok {
			v.offer(n)
		}
		seen[m.ID] = true
		out = append(out, v)
	}
	for n := range s.Nodes() {
		if !seen[n.ID] { // its gossip is silent, its books are not closed
			v := Node{ID: n.ID, Role: "none"}
			v.offer(n)
			out = append(out, v)
		}
	}
	return out
}

func (v *Node) offer(n *fsm.Node) {
	capacity, reserved := n.Capacity, n.Reserved
	v.Name, v.Executor, v.Version, v.Labels = n.Name, n.Executor, n.Version, n.Labels
	v.Drained, v.DrainedBy, v.DrainUntil = n.Drained, n.DrainedBy, n.DrainUntil
	v.Capacity, v.Reserved, v.Jobs, v.JoinedAt = &capacity, &reserved, n.Placed, n.JoinedAt
}
