package cluster

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// State is what gossip knows of a member.
type State string

// The states. Stopped members may come back as they are; members that left for
// good do not.
const (
	Alive   State = "alive"
	Dead    State = "dead"    // does not answer
	Stopped State = "stopped" // said that it stops; in large clusters not all get to hear it, and see it dead
	Left    State = "left"    // said that it leaves for good
)

// Member is a node as gossip knows it.
type Member struct {
	ID          string
	Offer       Offer
	LabelsHash  uint64 // where Offer.Labels did not fit
	Addr        string // ip:port of its cluster port
	Incarnation uint64 // counts its starts
	Generation  uint64
	Role        Role
	Leaving     bool
	Load        Load
	Started     time.Time
	State       State
	Since       time.Time // when this node saw the state begin

	InLog    bool // believes to be in the log's configuration
	hint     hint
	stopping bool
}

// hint is the leader that a member knows of.
type hint struct {
	Leader string `cbor:"1,keyasint,omitempty"`
	Term   uint64 `cbor:"2,keyasint,omitempty"`
}

// metaMax is memberlist's limit.
const metaMax = 512

// meta is a member's announcement: at most metaMax bytes of CBOR. The node's ID
// and address travel beside it.
type meta struct {
	Cluster    string            `cbor:"1,keyasint"`
	Generation uint64            `cbor:"2,keyasint"`
	Name       string            `cbor:"3,keyasint,omitempty"`
	API        string            `cbor:"4,keyasint,omitempty"`
	Version    string            `cbor:"5,keyasint,omitempty"`
	Protocol   uint32            `cbor:"6,keyasint,omitempty"`
	CPU        int64             `cbor:"7,keyasint,omitempty"`
	Memory     int64             `cbor:"8,keyasint,omitempty"`
	Disk       int64             `cbor:"9,keyasint,omitempty"`
	OS         string            `cbor:"10,keyasint,omitempty"`
	Arch       string            `cbor:"11,keyasint,omitempty"`
	Zone       string            `cbor:"12,keyasint,omitempty"`
	Role       Role              `cbor:"13,keyasint,omitempty"`
	Leaving    bool              `cbor:"14,keyasint,omitempty"`
	Started    int64             `cbor:"15,keyasint,omitempty"` // Unix seconds
	InLog      bool              `cbor:"16,keyasint,omitempty"`
	Hint       hint              `cbor:"17,keyasint,omitempty"`
	Load       Load              `cbor:"18,keyasint,omitempty"`
	LabelsHash uint64            `cbor:"19,keyasint,omitempty"`
	Labels     map[string]string `cbor:"20,keyasint,omitempty"`
	Stopping   bool              `cbor:"21,keyasint,omitempty"`
	Oldest     uint32            `cbor:"22,keyasint,omitempty"`
	State      uint32            `cbor:"23,keyasint,omitempty"`
}

// encodeMeta leaves out what does not fit, the least needed first: labels become
// a hash, then texts are cut.
func encodeMeta(clusterID string, m Member) ([]byte, error) {
	out := meta{
		Cluster: clusterID, Generation: m.Generation, Name: cut(m.Offer.Name, 63), API: cut(m.Offer.APIAddr, 80),
		Version: cut(m.Offer.Version, 32), Protocol: m.Offer.Protocol, CPU: m.Offer.CPU, Memory: m.Offer.Memory,
		Disk: m.Offer.Disk, OS: cut(m.Offer.OS, 16), Arch: cut(m.Offer.Arch, 16), Zone: cut(m.Offer.Zone, 32),
		Role: m.Role, Leaving: m.Leaving, Started: m.Started.Unix(), InLog: m.InLog, Hint: m.hint, Load: m.Load,
		Stopping: m.stopping, Oldest: m.Offer.Oldest, State: m.Offer.State,
		Labels: m.Offer.Labels,
	}
	body, err := cbor.Marshal(out)
	if err == nil && len(body) > metaMax {
		out.Labels, out.LabelsHash = nil, hashLabels(m.Offer.Labels)
		body, err = cbor.Marshal(out)
	}
	if err == nil && len(body) > metaMax {
		err = fmt.Errorf("%d bytes is above %d", len(body), metaMax)
	}
	if err != nil {
		return nil, fmt.Errorf("encode announcement: %w", err)
	}
	return body, nil
}

func decodeMeta(body []byte) (meta, error) {
	var m meta
	if err := cbor.Unmarshal(body, &m); err != nil {
		return meta{}, fmt.Errorf("decode announcement: %w", err)
	}
	return m, nil
}

func (m meta) member() Member {
	return Member{
		Generation: m.Generation, Role: m.Role, Leaving: m.Leaving, Load: m.Load, InLog: m.InLog, hint: m.Hint, stopping: m.Stopping,
		Started: time.Unix(m.Started, 0), LabelsHash: m.LabelsHash,
		Offer: Offer{Name: m.Name, APIAddr: m.API, Version: m.Version, Protocol: m.Protocol, Oldest: m.Oldest, State: m.State, CPU: m.CPU,
			Memory: m.Memory, Disk: m.Disk, OS: m.OS, Arch: m.Arch, Zone: m.Zone, Labels: m.Labels},
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "") // CBOR takes no other
}

func hashLabels(labels map[string]string) uint64 {
	h := fnv.New64a()
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(h, "%q=%q,", k, labels[k])
	}
	return h.Sum64()
}
