// Package link is the stream between a node and its leader: what travels on it,
// the node's end (Client) and the leader's end (Server). It owns the wire format
// and nothing else: what a node should run is decided in sched, what it runs is
// kept in runner.
//
// The stream is level-triggered, like a kubelet's. Down comes the full set of
// attempts that the node should be running; up go what it does run, its
// capacity, and reports until each has been acknowledged. A stream that broke
// is dialled again and starts with a Hello that says everything anew: nothing
// has to be remembered about the old one.
//
// Start reading at Up and Down, then at Handler and Session, which are what the
// two ends do with a stream.
package link

import (
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Up is what a node sends. Hello is set on the first message of a stream and
// never after.
type Up struct {
	Hello   *Hello   `json:"hello,omitempty"`
	Beat    *Beat    `json:"beat,omitempty"`
	Reports []Report `json:"reports,omitempty"`
}

// Hello says who dials and all that it runs.
type Hello struct {
	Node fsm.Node         `json:"node"` // ID, name, incarnation, capacity, labels, executor, version
	Runs []fsm.AttemptRef `json:"runs"` // every attempt on its disk that is not finished and acknowledged
	Have []string         `json:"have"` // repositories whose mirror it holds

	Images   []string `json:"images,omitempty"` // images that it holds, named as files name them
	DiskFull bool     `json:"disk_full,omitempty"`
}

// Beat is the lease's heartbeat: one every two seconds. The leader answers with
// the same Seq, so that the node can tell from its own clock when it was last
// heard.
type Beat struct {
	Seq  uint64   `json:"seq"`
	Load Load     `json:"load"`
	Have []string `json:"have,omitempty"` // set when it changed since the last message

	Images []string `json:"images,omitempty"` // likewise
}

// Load is how busy a node is, for people and metrics; placement goes by what is
// reserved.
type Load struct {
	CPU     float64 `json:"cpu"`    // used cores
	Memory  int64   `json:"memory"` // used bytes
	Disk    int64   `json:"disk"`   // free bytes below the data directory
	Running int     `json:"running"`
	// DiskFull says that the node can take no job until it has made room.
	DiskFull bool `json:"disk_full,omitempty"`
}

// Report is the node's word on one attempt. ID orders the reports of one node's
// start; it is sent again on every new stream until the leader acknowledges it.
type Report struct {
	ID      uint64         `json:"id"`
	Ref     fsm.AttemptRef `json:"ref"`
	Started bool           `json:"started,omitempty"`
	Waiting []string       `json:"waiting,omitempty"` // with Started: steps that wait for a person by now
	Outcome *fsm.Outcome   `json:"outcome,omitempty"` // set when it has ended
}

// Down is what the leader sends.
type Down struct {
	Beat    uint64  `json:"beat,omitempty"` // the Seq of the last Beat that arrived
	Acks    []Ack   `json:"acks,omitempty"`
	Desired *Wanted `json:"desired,omitempty"`
	// Refused ends the stream with a reason, such as a node that has been removed.
	Refused string `json:"refused,omitempty"`
}

// Ack answers a Report. Stale says that the attempt has been superseded: its
// containers are to be stopped and its result thrown away.
type Ack struct {
	ID    uint64 `json:"id"`
	Stale bool   `json:"stale,omitempty"`
}

// Wanted is the full set of attempts that the node should be running, as of the
// state's Index. What runs and is not in it has been superseded.
type Wanted struct {
	Index    uint64       `json:"index"`
	Attempts []Assignment `json:"attempts"`
}

// Assignment is one attempt that a node should be running. Work is set the
// first time that the attempt is sent on a stream.
type Assignment struct {
	Ref    fsm.AttemptRef `json:"ref"`
	Cancel bool           `json:"cancel,omitempty"` // stop it and report Canceled
	// Decisions are all that people have said of its manual steps.
	Decisions []fsm.StepDecision `json:"decisions,omitempty"`
	Work      *Work              `json:"work,omitempty"`
}

// Work is all that a node needs to know to run an attempt.
type Work struct {
	Kind   fsm.JobKind   `json:"kind"`
	Name   string        `json:"name"`
	Commit fsm.Commit    `json:"commit"`
	Spec   *pipeline.Job `json:"spec,omitempty"` // nil for a plan

	Inputs map[string]string `json:"inputs,omitempty"` // the build's, for a plan
	// Secrets are those that Spec names, sealed with the cluster's key. One that is
	// not in the store is not here.
	Secrets map[string][]byte `json:"secrets,omitempty"`
	// Registries are sealed credentials for the images of Spec, by registry.
	Registries map[string][]byte `json:"registries,omitempty"`
	// Artifacts are those of the jobs that this one needs, by their names.
	Artifacts map[string]fsm.Artifacts `json:"artifacts,omitempty"`
	// Scopes are the caches that the job may read, the one that it writes first.
	Scopes []string `json:"scopes,omitempty"`
}

// Beats and leases. They are settings; these are the
// defaults.
const (
	DefaultBeat    = 2 * time.Second
	DefaultSuspect = 6 * time.Second  // no new jobs
	DefaultLost    = 15 * time.Second // its attempts run elsewhere
)
