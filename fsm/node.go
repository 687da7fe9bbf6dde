package fsm

import (
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// Node is a member that runs jobs.
type Node struct {
	ID          NodeID             `json:"id"`
	Name        string             `json:"name"`
	Incarnation uint64             `json:"incarnation"` // counts its starts
	Capacity    pipeline.Resources `json:"capacity"`
	Labels      map[string]string  `json:"labels,omitempty"` // os, arch and node are among them
	Executor    string             `json:"executor"`         // "docker" or "process"
	Version     string             `json:"version"`
	Drained     bool               `json:"drained,omitempty"` // gets no new job
	DrainedBy   string             `json:"drained_by,omitempty"`
	DrainUntil  time.Time          `json:"drain_until,omitzero"` // what still runs there then is moved; zero: never
	JoinedAt    time.Time          `json:"joined_at"`

	Reserved pipeline.Resources `json:"reserved"` // by the jobs placed on it
	Placed   int                `json:"placed"`   // how many those are, plans included
}

// Free is what is left of its capacity.
func (n *Node) Free() pipeline.Resources {
	return pipeline.Resources{
		CPU:    n.Capacity.CPU - n.Reserved.CPU,
		Memory: n.Capacity.Memory - n.Reserved.Memory,
		Disk:   n.Capacity.Disk - n.Reserved.Disk,
	}
}

// Fits reports whether a request r is within what is left of the node.
func (n *Node) Fits(r pipeline.Resources) bool {
	free := n.Free()
	return r.CPU <= free.CPU && r.Memory <= free.Memory && r.Disk <= free.Disk
}

// Matches reports whether the node has every label that is wanted.
func (n *Node) Matches(want map[string]string) bool {
	for k, v := range want {
		if n.Labels[k] != v {
			return false
		}
	}
	return true
}

// SameOffer reports whether two announcements of a node say the same, so that a
// hello that brings no news costs no log entry.
func (n *Node) SameOffer(o *Node) bool {
	if n.Name != o.Name || n.Incarnation != o.Incarnation || n.Capacity != o.Capacity ||
		n.Executor != o.Executor || n.Version != o.Version || len(n.Labels) != len(o.Labels) {
		return false
	}
	return n.Matches(o.Labels)
}
