package api

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
	"github.com/codepr/narwhal/joblog"
)

// What the interfaces below answer with; cmd puts these in the place of the
// errors of the packages behind them.
var (
	// ErrNotLeader is returned by a Proposer when this node does not lead, or not
	// any more.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrUncertain is returned by a Proposer when the command may or may not have
	// been committed.
	ErrUncertain = errors.New("it is not known whether the command was committed")
	// ErrNoBundle is returned when this node does not hold the bundle.
	ErrNoBundle = errors.New("no such bundle is here")
	// ErrNoBlob is returned when no node that can be reached holds the blob.
	ErrNoBlob = errors.New("no such blob is here")
	// ErrBucket is returned when the blob is in a bucket that can't be read now.
	ErrBucket = errors.New("the bucket can't be read now")
)

// State is this node's copy of the replicated state. replica.Replica is one.
type State interface {
	State() *fsm.State
	Watch() (*fsm.State, <-chan struct{})
	Wait(ctx context.Context, index uint64) (*fsm.State, error)
}

// Proposer carries a command to the log and waits until it has been applied
// here. The error is ErrNotLeader, ErrUncertain, or what Apply refused with.
type Proposer interface {
	Propose(ctx context.Context, c fsm.Command) (fsm.Result, error)
	// ProposeAll carries several; what Apply refused one with is in its Result.
	ProposeAll(ctx context.Context, c []fsm.Command) ([]fsm.Result, error)
}

// Cluster is who is here and who leads.
type Cluster interface {
	Self() fsm.NodeID
	// Leader is the node that leads; its ID is empty while none does. The channel
	// is closed when that may have changed.
	Leader() (Leader, <-chan struct{})
	Members() []Member
	// HasLog reports whether the replica here follows the log, and has caught up.
	HasLog() bool
	// VerifyLeader asks a majority whether this node still leads, and returns once all
	// that was committed before is applied here.
	VerifyLeader(ctx context.Context) error
	// Leave takes this node out of the cluster for good; the process ends after it.
	Leave(ctx context.Context) error
	Health() Health
}

// Leader is the node that leads.
type Leader struct {
	ID      fsm.NodeID
	APIAddr string // host:port
}

// Member is a node as the cluster knows it.
type Member struct {
	ID      fsm.NodeID `json:"id"`
	Name    string     `json:"name"`
	Addr    string     `json:"addr"`     // host:port, node to node
	APIAddr string     `json:"api_addr"` // host:port
	Role    string     `json:"role" doc:"voter, nonvoter (it follows the log), or none"`
	Leader  bool       `json:"leader"`
	Alive   bool       `json:"alive"`
	Full    bool       `json:"disk_full" doc:"Its disk is full: it takes no jobs"`
	Version string     `json:"version"`
	// Protocol and StateVersion are 0 and 1 on a node of before they were told.
	Protocol     uint32 `json:"protocol" doc:"Of the messages between nodes, the newest that it speaks"`
	StateVersion uint32 `json:"state_version" doc:"Of the log's entries, the newest that it can apply"`
	// Bucket is nil on a node that has none.
	Bucket *NodeBucket `json:"bucket,omitempty"`
}

// Health is how the cluster stands.
type Health struct {
	ClusterID   string `json:"cluster_id"`
	Voters      int    `json:"voters"`
	AliveVoters int    `json:"alive_voters"`
	Tolerance   string `json:"tolerance" doc:"How many deaths the cluster stands, in words"`
	// Bucket is nil where the node has none.
	Bucket *BucketHealth `json:"bucket,omitempty"`
}

// Transport reaches other nodes over the cluster's mutual TLS.
type Transport interface {
	// Node gives the road to a node. Requests on it have URLs of the form
	// http://<node id>/…; it dials with TLS by itself.
	Node(id fsm.NodeID) http.RoundTripper
}

// Logs are the logs that this node writes, and its copies of others'. Both fail where
// there is none, or none yet. Copies are not followed.
type Logs interface {
	// Open reads from offset to what the log's end is now.
	Open(job fsm.JobID, attempt int, offset int64) (*joblog.Reader, error)
	// Follow yields the lines from offset on, and then each as it is written, until
	// ctx ends, or the attempt has ended here.
	Follow(ctx context.Context, job fsm.JobID, attempt int, offset int64) (iter.Seq2[joblog.Line, error], error)
}

// Explainer says why a job is not placed. It is asked at the leader only.
type Explainer interface {
	Why(ctx context.Context, job fsm.JobID) ([]fsm.Reason, error)
}

// Bundles are what `narwhal push` brought to this node.
type Bundles interface {
	// Put stores what r brings, durably, and names it by its SHA-256.
	Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error)
	// Open is ErrNoBundle where it is not here.
	Open(digest string) (io.ReadCloser, int64, error)
}

// Blobs are the archives of caches and artifacts on this node.
type Blobs interface {
	// Put stores what r brings, durably, and names it by its SHA-256.
	Put(ctx context.Context, r io.Reader, limit int64) (digest string, size int64, err error)
	// Open is ErrNoBlob where it is not here.
	Open(digest string) (io.ReadCloser, int64, error)
	// Fetch opens a blob, which it brings here from one of its holders where it has
	// to. It is ErrNoBlob where none can give it.
	Fetch(ctx context.Context, b fsm.Blob) (io.ReadCloser, error)
}

// SealedLogs are the logs of attempts that have ended, which nodes keep as blobs.
type SealedLogs interface {
	Blobs
	// Read reads from offset on, brought here from one of the blob's holders where it
	// has to be, and compared with its name. It is ErrNoBlob where none can give it.
	Read(ctx context.Context, b fsm.Blob, offset int64) (*joblog.Reader, error)
}

// Giver gives blobs of this node to others, at the leader's word.
type Giver interface {
	// Give is ErrNoBlob where it is not here.
	Give(ctx context.Context, kind fsm.BlobKind, digest string, to fsm.NodeID) error
}

// Sealer encrypts secrets with the cluster's key. Its error is the value's fault.
type Sealer interface {
	Seal(repo, name, value string) ([]byte, error)
}

// Deliveries are the webhooks that came to this node.
type Deliveries interface {
	List(f inbox.Filter) ([]inbox.Delivery, error)
	// Find is inbox.ErrNotFound where there is none; the body is nil where it was not
	// kept.
	Find(id string) (inbox.Delivery, []byte, error)
	// Replay hands a delivery in once more. With again, its commit is built anew; the
	// same word makes one build. What comes of it is the delivery's outcome; the error is
	// inbox.ErrNotFound, inbox.ErrUnverified, or the disk's.
	Replay(ctx context.Context, id, again string) (inbox.Delivery, error)
}

// Deps is what the API stands on. All are needed but Hooks, Heads, Metrics and Crash.
type Deps struct {
	State     State
	Proposer  Proposer
	Cluster   Cluster
	Transport Transport
	Logs      Logs
	Explainer Explainer
	Bundles   Bundles
	Blobs     Blobs
	Sealed    SealedLogs
	Giver     Giver
	// Copies takes what other nodes send of their logs, at CopiesPath.
	Copies http.Handler
	Sealer Sealer
	Auth   *Auth
	// Hooks takes webhooks, at /hooks/github and /commit, at every node. It verifies
	// signatures by itself.
	Hooks http.Handler
	// Deliveries are those that it took.
	Deliveries Deliveries
	// Commits takes what other nodes hand to the leader, at CommitsPath.
	Commits http.Handler
	// Heads asks a remote for its branches and tags; nil where this node can't.
	Heads func(ctx context.Context, cloneURL string) ([]RemoteHead, error)
	// Metrics answers /metrics.
	Metrics http.Handler
	// Crash ends the process, which stays away for down, at least. It returns only
	// where that fails. nil: this node takes no part in drills.
	Crash func(down time.Duration) error
}

func (d Deps) validate() error {
	switch {
	case d.State == nil, d.Proposer == nil, d.Cluster == nil, d.Transport == nil, d.Logs == nil,
		d.Explainer == nil, d.Bundles == nil, d.Blobs == nil, d.Sealed == nil, d.Giver == nil, d.Copies == nil, d.Deliveries == nil, d.Commits == nil, d.Sealer == nil, d.Auth == nil:
		return errors.New("api: a dependency is missing")
	}
	return nil
}
