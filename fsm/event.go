package fsm

import "time"

// Transition is an entry of the outbox: a build or a job came to a new status.
// The leader publishes them in the order of Seq and acknowledges with AckEvents;
// a consumer that sees a Seq twice drops the second.
type Transition struct {
	Seq    uint64    `json:"seq"` // from 1
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // "build" or "job"
	Build  BuildID   `json:"build"`
	Job    *JobID    `json:"job,omitempty"`
	Name   string    `json:"name,omitempty"` // the job's
	Repo   string    `json:"repo"`
	SHA    string    `json:"sha"`
	Ref    string    `json:"ref"`
	Status Status    `json:"status"`
	Cause  Cause     `json:"cause,omitempty"`
	Node   NodeID    `json:"node,omitempty"`
	N      int       `json:"attempt,omitempty"`
	// Tests are set with the end of a job that had some.
	Tests *TestCounts `json:"tests,omitempty"`
}

// TestCounts are a TestReport's sums.
type TestCounts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// maxOutbox bounds what waits for a sink that does not answer. Beyond it the
// oldest are dropped; State.EventsDropped counts them.
const maxOutbox = 50_000
