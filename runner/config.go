package runner

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// Config is a runner's settings and what it works with. Where a setting is
// zero, its default holds.
type Config struct {
	Dir     string   // the node's data directory
	Cluster string   // its ID, for labels on what is started
	Node    fsm.Node // what this node says of itself; Incarnation is this start's
	URL     string   // where people reach narwhal, for NARWHAL_URL
	// DefaultImage is for files that name none; empty leaves it to package pipeline.
	DefaultImage string

	Leader   Leader
	Checkout Checkout
	Executor Executor
	Load     func() link.Load // asked at each beat; Running is filled in
	// Unseal opens a secret that was sealed for a repository (empty: for all) under
	// a name.
	Unseal func(repo, name string, sealed []byte) (string, error)
	// SecretHelp says how a secret that a job lacks is given; by default, by the command
	// line's `narwhal secret set`.
	SecretHelp func(name, repo string) string
	// Blobs and Caches are where what jobs leave is kept; nil keeps nothing.
	Blobs  Blobs
	Caches Caches
	Keep   KeepLimits
	// Copies takes care of logs; nil leaves them where they are written.
	Copies Copies
	// Adjust may change what a plan brings, before it is reported; nil leaves it.
	Adjust func(*pipeline.Pipeline) error
	Log    *slog.Logger

	// Boot names the machine's current start; empty where that can't be told.
	Boot string
	// LeaveRunning leaves jobs to be adopted by the next start when this one
	// ends; only where Executor can adopt them.
	LeaveRunning bool
	// KeepWorkspace leaves checkouts where they are, to look at.
	KeepWorkspace bool

	Beat time.Duration // between heartbeats; 2 s
	// Lease is how long after the last acknowledged beat was sent jobs with
	// on_node_loss: fail go on. Lease and FenceGrace together stay below Lost.
	Lease      time.Duration // 12 s
	FenceGrace time.Duration // from TERM to KILL when the lease has run out; 2 s
	Lost       time.Duration // when the leader counts this node lost; 15 s
	Grace      time.Duration // from TERM to KILL when a job is canceled; 10 s
	Farewell   time.Duration // how long Run waits at its end to tell the leader; 2 s
	Adopt      time.Duration // how long an executor that doesn't answer is asked again; 1 min

	Plans    int           // plans at a time; 4
	LogBytes int64         // budget of all logs kept; 10 GiB
	LogAge   time.Duration // logs are kept no longer; 30 days
	LogCount int           // and not more than this; 50,000

	Full      func(bool)    // told whether a disk is full after each look; nil tells nobody
	Marks     Marks         // of the disks that the data directory and images are on
	Shelves   []Shelf       // what may go from the data directory, besides logs and images
	DiskEvery time.Duration // how often the disks are looked at; 10 s
}

func (c *Config) setDefaults() {
	for d, v := range map[*time.Duration]time.Duration{
		&c.Beat: link.DefaultBeat, &c.Lease: 12 * time.Second, &c.FenceGrace: 2 * time.Second,
		&c.Lost: link.DefaultLost, &c.Grace: 10 * time.Second, &c.Farewell: 2 * time.Second,
		&c.Adopt: time.Minute, &c.LogAge: 30 * 24 * time.Hour, &c.DiskEvery: 10 * time.Second,
	} {
		if *d == 0 {
			*d = v
		}
	}
	if c.Plans == 0 {
		c.Plans = 4
	}
	if c.LogBytes == 0 {
		c.LogBytes = 10 << 30
	}
	if c.LogCount == 0 {
		c.LogCount = 50_000
	}
	if c.Unseal == nil {
		c.Unseal = func(_, name string, _ []byte) (string, error) {
			return "", fmt.Errorf("secret %s: this node has no key", name)
		}
	}
	if c.SecretHelp == nil {
		c.SecretHelp = func(name, repo string) string {
			return fmt.Sprintf("set it with `narwhal secret set %s --repo %s`", name, repo)
		}
	}
	if c.Copies == nil {
		c.Copies = noCopies{}
	}
	if c.Load == nil {
		c.Load = func() link.Load { return link.Load{} }
	}
}

// Validate says what is missing or contradicts itself.
func (c *Config) Validate() error {
	switch {
	case c.Dir == "" || c.Node.ID == "":
		return fmt.Errorf("runner: a data directory and a node ID are needed")
	case c.Leader == nil || c.Checkout == nil || c.Executor == nil || c.Log == nil:
		return fmt.Errorf("runner: leader, checkout, executor and log are needed")
	case c.Lease+c.FenceGrace >= c.Lost:
		return fmt.Errorf("runner: the lease (%v) and its grace (%v) must end before the leader counts the node lost (%v)",
			c.Lease, c.FenceGrace, c.Lost)
	case c.Lease <= 2*c.Beat:
		return fmt.Errorf("runner: the lease (%v) must be longer than two beats (%v)", c.Lease, c.Beat)
	}
	return nil
}

// noCopies leaves logs where they are.
type noCopies struct{}

func (noCopies) Watch(fsm.AttemptRef, string) {}
func (noCopies) Over(fsm.AttemptRef, string)  {}
