package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/bundle"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/replica"
	"github.com/codepr/narwhal/sched"
)

// The packages below cmd don't know each other. What stands here lets one be
// used where another has declared what it needs.

// proposer gives the log's errors the names that its users know.
type proposer struct{ *replica.Proposer }

func (p proposer) Propose(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	r, err := p.Proposer.Propose(ctx, c)
	return r, named(err)
}

func (p proposer) ProposeAll(ctx context.Context, c []fsm.Command) ([]fsm.Result, error) {
	r, err := p.Proposer.ProposeAll(ctx, c)
	return r, named(err)
}

func named(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrUncertain):
		return alias{err, []error{api.ErrUncertain, agent.ErrNotLeader, link.ErrNotLeader}}
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrNotRunning), errors.Is(err, replica.ErrStopped):
		return alias{err, []error{api.ErrNotLeader, agent.ErrNotLeader, link.ErrNotLeader}}
	case errors.Is(err, link.ErrNotLeader):
		return alias{err, []error{api.ErrNotLeader}}
	}
	return err
}

// oldest knows what the nodes can apply: those that hold the log, and those that are
// there and may come to hold it.
type oldest struct{ *cluster.Cluster }

// limit implements replica.Limit. What is not known of a node is not trusted to be new.
func (o oldest) limit() (version uint, who string) {
	snap, _ := o.Watch()
	version, who = fsm.StateVersion, "this node"
	holds := make(map[string]bool)
	for _, s := range o.Stats().Servers {
		holds[s.ID] = true
	}
	for _, m := range snap.Members {
		if holds[m.ID] || m.State == cluster.Alive {
			has := max(1, uint(m.Offer.State)) // those of before there were numbers announce none
			if has < version {
				version, who = has, fmt.Sprintf("node %s (narwhal %s)", cmp.Or(m.Offer.Name, m.ID), m.Offer.Version)
			}
		}
		delete(holds, m.ID)
	}
	for id := range holds {
		return 1, "node " + id + ", of which nothing is known,"
	}
	return version, who
}

// alias is an error that is also others, without saying so twice.
type alias struct {
	error
	also []error
}

func (a alias) Unwrap() []error { return append(slices.Clone(a.also), a.error) }

// leaders is link's view of the cluster.
type leaders struct{ *cluster.Cluster }

func (l leaders) Leader() (fsm.NodeID, bool) {
	m, _, ok := l.Cluster.Leader()
	return fsm.NodeID(m.ID), ok
}

func (l leaders) Changed() <-chan struct{} {
	_, changed := l.Watch()
	return changed
}

// membership is sched's.
type membership struct{ *cluster.Cluster }

func (m membership) Departed() ([]fsm.NodeID, <-chan struct{}) {
	s, changed := m.Watch()
	var out []fsm.NodeID
	for _, n := range s.Members {
		if n.State == cluster.Left { // one that is leaving may yet stay
			out = append(out, fsm.NodeID(n.ID))
		}
	}
	return out, changed
}

// explainer is the dispatcher as the API asks it.
type explainer struct{ *sched.Dispatcher }

func (e explainer) Why(_ context.Context, id fsm.JobID) ([]fsm.Reason, error) {
	r, err := e.Dispatcher.Why(id)
	return r, named(err)
}

// view is the cluster as the API shows it.
type view struct {
	*cluster.Cluster
	fresh  *freshness
	drain  func(ctx context.Context, id fsm.NodeID) error // returns when nothing is placed on it
	resume func(ctx context.Context, id fsm.NodeID) error
	logs   func(ctx context.Context) error // returns when no log is on this node only
	bucket *bucketRoad                     // nil where the node has none
	left   func()                          // ends the process
}

func (v view) HasLog() bool { return v.fresh.HasLog() }

func (v view) Self() fsm.NodeID { return fsm.NodeID(v.Identity().NodeID) }

func (v view) Leader() (api.Leader, <-chan struct{}) {
	s, changed := v.Watch()
	if !s.HasLeader {
		return api.Leader{}, changed
	}
	return api.Leader{ID: fsm.NodeID(s.Leader.ID), APIAddr: s.Leader.Offer.APIAddr}, changed
}

func (v view) VerifyLeader(ctx context.Context) error { return named(v.Cluster.VerifyLeader(ctx)) }

// Leave empties the node before it takes it out: its jobs end where they run.
func (v view) Leave(ctx context.Context) error {
	if err := v.drain(ctx, v.Self()); err != nil {
		return errors.Join(fmt.Errorf("leave: %w", err), v.resume(context.WithoutCancel(ctx), v.Self()))
	}
	if err := v.logs(ctx); err != nil {
		return errors.Join(fmt.Errorf("leave: %w", err), v.resume(context.WithoutCancel(ctx), v.Self()))
	}
	if err := v.Cluster.Leave(ctx); err != nil {
		return errors.Join(err, v.resume(context.WithoutCancel(ctx), v.Self()))
	}
	v.left()
	return nil
}

// servers is the log's configuration, from this node or, where it has no log,
// from the leader.
func (v view) servers() cluster.Stats {
	s := v.Stats()
	if s.HasLog {
		return s
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if led, err := v.LeaderStats(ctx); err == nil {
		return led
	}
	return s
}

func (v view) Members() []api.Member {
	snap, _ := v.Watch()
	roles := make(map[string]string)
	for _, s := range v.servers().Servers {
		roles[s.ID] = "nonvoter"
		if s.Voter {
			roles[s.ID] = "voter"
		}
	}
	var out []api.Member
	for _, m := range snap.Members {
		if m.State == cluster.Left {
			continue // gossip remembers it for a while
		}
		role := roles[m.ID]
		if role == "" {
			role = "none"
		}
		out = append(out, api.Member{
			ID: fsm.NodeID(m.ID), Name: m.Offer.Name, Addr: m.Addr, APIAddr: m.Offer.APIAddr, Role: role,
			Leader: snap.HasLeader && snap.Leader.ID == m.ID, Alive: m.State == cluster.Alive, Version: m.Offer.Version, Full: m.Load.Full,
			Bucket: bucketOf(m.Load), Protocol: m.Offer.Protocol, StateVersion: max(1, m.Offer.State),
		})
	}
	return out
}

func (v view) Health() api.Health {
	s := v.servers()
	h := api.Health{ClusterID: v.Identity().ClusterID, Tolerance: s.Tolerance, Bucket: v.bucket.health()}
	for _, server := range s.Servers {
		if server.Voter {
			h.Voters++
			if server.State == cluster.Alive {
				h.AliveVoters++
			}
		}
	}
	return h
}

// The protocols on the one port beside cluster's own.
const (
	alpnLink = "h2"
	alpnHTTP = "narwhal-http"
)

// nodes reaches the HTTP of other nodes over the cluster's mutual TLS; the host
// of a URL is the node's ID.
type nodes struct {
	transport *http.Transport
	patient   *http.Transport // for what takes long to be answered
}

func newNodes(c *cluster.Cluster) nodes {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return c.DialNode(ctx, id, alpnHTTP)
		},
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Minute,
	}
	patient := t.Clone()
	patient.ResponseHeaderTimeout = 0
	return nodes{t, patient}
}

func (n nodes) Node(fsm.NodeID) http.RoundTripper { return n.transport }

// fetchBundle reads a bundle from a node that holds it.
func (n nodes) fetchBundle(ctx context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error) {
	return n.read(ctx, node, api.NodePath(digest), "bundle")
}

// errNotThere is returned when a node does not have what it was asked for.
var errNotThere = errors.New("it is not there")

func (n nodes) read(ctx context.Context, node fsm.NodeID, path, what string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(node)+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s from node %s: %w", what, node, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound:
		err = errNotThere
	default:
		err = fmt.Errorf("it answered %s", resp.Status)
	}
	_ = resp.Body.Close()
	return nil, fmt.Errorf("fetch %s from node %s: %w", what, node, err)
}

// bundles is the store as the API uses it.
type bundles struct{ *bundle.Store }

func (b bundles) Open(digest string) (io.ReadCloser, int64, error) {
	f, size, err := b.Store.Open(digest)
	if errors.Is(err, bundle.ErrNotFound) {
		return nil, 0, alias{err, []error{api.ErrNoBundle}}
	}
	return f, size, err
}
