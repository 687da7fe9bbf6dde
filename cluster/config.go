package cluster

import (
	"fmt"
	"net"
	"time"
	"unicode/utf8"
)

// DefaultPort is the port of everything node to node, TCP and UDP.
const DefaultPort = "9898"

// Role says whether a node may be made a voter.
type Role string

// The roles.
const (
	RoleAny       Role = ""           // may vote, may run jobs
	RoleVoterOnly Role = "voter-only" // a witness: votes, runs no jobs; preferred as voter
	RoleNoVoter   Role = "no-voter"   // runs jobs, never votes
)

// Config is what a node is started with. Zero durations and counts take the
// default that their comment names.
type Config struct {
	DataDir   string   // must exist or be creatable; holds identity.json, peers.json and raft/
	Bind      string   // host:port to listen on, TCP and UDP; default ":9898", port 0 lets the kernel choose
	Advertise string   // host:port that others reach this node at; default: the bound port at the address that routes to them
	Join      []string // host[:port] of any members; empty founds a cluster in an empty DataDir
	Token     string   // from Cluster.Token, for the first start with Join
	Role      Role
	MaxVoters int // 1, 3 or 5; default 5
	Offer     Offer

	HeartbeatTimeout  time.Duration // without a leader until an election, default 500ms; also the election's timeout
	LeaderLease       time.Duration // without a majority until a leader steps down, default half the heartbeat timeout
	CommitTimeout     time.Duration // until followers hear of the last commit when nothing follows it, at most twice this; default 100ms (50ms costs 0.2 % of a core more)
	SnapshotThreshold uint64        // log entries between snapshots, default 8192
	SnapshotInterval  time.Duration // how often to look whether one is due, default 30s
	TrailingLogs      uint64        // entries kept behind a snapshot for slow followers, default 10240

	ProbeInterval time.Duration // gossip's probe of one random member, default 500ms
	ProbeTimeout  time.Duration // of a probe, default 250ms

	Reconcile         time.Duration // the leader's look at the voter set, default 1s
	StabilizationTime time.Duration // caught up until made a voter, default 3s
	DeadVoterAfter    time.Duration // gone until replaced as voter, default 60s

	Network Network // default: sockets
	// Guard wraps the TCP listener, such as to refuse some addresses; nil leaves it.
	Guard func(net.Listener) net.Listener
}

// Offer is what a node tells the others of itself by gossip. It is a hint: the
// leader's books decide. The sum of the texts should stay below 250 bytes;
// labels that do not fit travel as a hash only.
type Offer struct {
	Name     string // for people, default the node ID
	APIAddr  string // host:port of its HTTP API as others reach it
	Version  string
	Protocol uint32 // of the messages between nodes; what it means is the caller's
	Oldest   uint32 // the oldest Protocol that it can talk to
	State    uint32 // the newest log entries that it can apply; what it means is the caller's
	CPU      int64  // milli-CPUs
	Memory   int64  // bytes
	Disk     int64  // bytes
	OS       string
	Arch     string
	Zone     string // voters are spread over these
	Labels   map[string]string
}

// Load is how busy a node is. It changes while the node runs.
type Load struct {
	Running int   `cbor:"1,keyasint,omitempty"` // jobs
	CPU     int64 `cbor:"2,keyasint,omitempty"` // milli-CPUs that are free
	Memory  int64 `cbor:"3,keyasint,omitempty"` // bytes that are free
	Full    bool  `cbor:"4,keyasint,omitempty"` // its disk is: it takes no jobs

	Bucket     string `cbor:"5,keyasint,omitempty"` // the ID of the one that it puts blobs into
	BucketDown bool   `cbor:"6,keyasint,omitempty"` // it can't use it now
	Waiting    int    `cbor:"7,keyasint,omitempty"` // blobs that stay on it until they are there
}

func (c Config) withDefaults() Config {
	c.Bind = withPort(orDefault(c.Bind, ":"+DefaultPort), DefaultPort)
	c.MaxVoters = orDefault(c.MaxVoters, 5)
	c.HeartbeatTimeout = orDefault(c.HeartbeatTimeout, 500*time.Millisecond)
	c.LeaderLease = orDefault(c.LeaderLease, c.HeartbeatTimeout/2)
	c.CommitTimeout = orDefault(c.CommitTimeout, 100*time.Millisecond)
	c.SnapshotThreshold = orDefault(c.SnapshotThreshold, 8192)
	c.SnapshotInterval = orDefault(c.SnapshotInterval, 30*time.Second)
	c.TrailingLogs = orDefault(c.TrailingLogs, 10240)
	c.ProbeInterval = orDefault(c.ProbeInterval, 500*time.Millisecond)
	c.ProbeTimeout = orDefault(c.ProbeTimeout, 250*time.Millisecond)
	c.Reconcile = orDefault(c.Reconcile, time.Second)
	c.StabilizationTime = orDefault(c.StabilizationTime, 3*time.Second)
	c.DeadVoterAfter = orDefault(c.DeadVoterAfter, time.Minute)
	if c.Network == nil {
		c.Network = sockets{}
	}
	join := make([]string, len(c.Join))
	for i, host := range c.Join {
		join[i] = withPort(host, DefaultPort)
	}
	c.Join = join
	return c
}

// Validate says what is wrong with the configuration, defaults applied.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.DataDir == "":
		return fmt.Errorf("cluster config: no data directory")
	case c.Role != RoleAny && c.Role != RoleVoterOnly && c.Role != RoleNoVoter:
		return fmt.Errorf("cluster config: unknown role %q", c.Role)
	case c.MaxVoters != 1 && c.MaxVoters != 3 && c.MaxVoters != 5:
		return fmt.Errorf("cluster config: %d voters: want 1, 3 or 5", c.MaxVoters)
	case c.LeaderLease > c.HeartbeatTimeout:
		return fmt.Errorf("cluster config: leader lease %s is above the heartbeat timeout %s", c.LeaderLease, c.HeartbeatTimeout)
	case c.HeartbeatTimeout < 20*time.Millisecond || c.LeaderLease < 10*time.Millisecond || c.CommitTimeout < time.Millisecond:
		return fmt.Errorf("cluster config: a timeout is too short")
	case c.ProbeTimeout > c.ProbeInterval:
		return fmt.Errorf("cluster config: probe timeout %s is above the probe interval %s", c.ProbeTimeout, c.ProbeInterval)
	}
	for k, v := range c.Offer.Labels {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("cluster config: label %q=%q is not UTF-8", k, v)
		}
	}
	for _, addr := range append([]string{c.Bind}, c.Join...) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("cluster config: address %q: %w", addr, err)
		}
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// withPort adds a port to a host that has none. A bare IPv6 address gets its
// brackets.
func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if ip := net.ParseIP(host); ip != nil {
		return net.JoinHostPort(host, port)
	}
	return host + ":" + port
}
