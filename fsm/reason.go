package fsm

// Reason says why a job is not on a node now. Without a Node it is about the job
// itself.
type Reason struct {
	Node    NodeID     `json:"node,omitempty"`
	Name    string     `json:"name,omitempty"` // the node's
	Code    ReasonCode `json:"code"`
	Message string     `json:"message"` // in words, with the numbers
	// Never says that waiting alone won't help: no node has, even when empty, what
	// the job asks for.
	Never bool `json:"never,omitempty"`
}

// ReasonCode names a reason for programs.
type ReasonCode string

// The reasons.
const (
	ReasonBlocked  ReasonCode = "blocked"  // needs jobs that have not passed
	ReasonHeld     ReasonCode = "held"     // waits for a person to approve it
	ReasonGroup    ReasonCode = "group"    // waits for its turn in its concurrency group
	ReasonBackoff  ReasonCode = "backoff"  // a retry waits for its time
	ReasonPlaced   ReasonCode = "placed"   // it has a node
	ReasonEnded    ReasonCode = "ended"    // it has ended
	ReasonNoNodes  ReasonCode = "no_nodes" // no node is there at all
	ReasonLabels   ReasonCode = "labels"
	ReasonCPU      ReasonCode = "cpu"
	ReasonMemory   ReasonCode = "memory"
	ReasonDisk     ReasonCode = "disk"
	ReasonDrained  ReasonCode = "drained"
	ReasonSilent   ReasonCode = "silent"   // no heartbeat
	ReasonBusy     ReasonCode = "busy"     // as many plans as it may make at a time
	ReasonReserved ReasonCode = "reserved" // room is kept for a bigger job that has waited longer
	ReasonFits     ReasonCode = "fits"     // it will be placed there next, or others go first
)
