package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/codepr/narwhal/agent"
	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/replica"
	"github.com/codepr/narwhal/secret"
)

var apiSecret = []byte("0123456789abcdef0123456789abcdef")

// sharedKey is what the cluster's nodes share.
var sharedKey = bytes.Repeat([]byte("k"), 32)

func box(t *testing.T) *secret.Box {
	t.Helper()
	b, err := secret.New(sharedKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// world is a cluster without gossip and Raft: one log, applied to every node that
// follows it as soon as it is proposed.
type world struct {
	t  *testing.T
	mu sync.Mutex

	index    uint64
	leader   fsm.NodeID
	changed  chan struct{}
	nodes    map[fsm.NodeID]*node
	order    []fsm.NodeID
	requests atomic.Int64 // from node to node
}

// node is one of its nodes, with both of its ports.
type node struct {
	*replica.Replica
	w        *world
	id       fsm.NodeID
	hasLog   bool
	down     bool // it can't be reached, and gossip says so
	deaf     bool // it can't be reached, and gossip has not noticed
	server   *api.Server
	auth     *api.Auth
	public   *httptest.Server
	private  *httptest.Server
	logs     logDir
	bundles  *bundleMap
	blobs    *bundleMap
	inbox    *inbox.Inbox
	again    []string // the words that deliveries were replayed with
	full     bool     // its disk, as gossip says
	left     bool
	crashed  []time.Duration // for how long, each time that a drill asked for it
	verify   error           // what VerifyLeader answers
	verified int             // how often it was asked
	believes fsm.NodeID      // who leads, whatever is true
	asked    chan struct{}   // told when Leader is asked, where it is set
	waits    chan struct{}   // told when Wait is, where it is set
}

func newWorld(t *testing.T, change func(*api.Config), names ...string) *world {
	w := &world{t: t, changed: make(chan struct{}), nodes: map[fsm.NodeID]*node{}}
	for _, name := range names {
		w.add(name, change)
	}
	w.elect(fsm.NodeID(names[0]))
	for _, name := range names {
		w.propose(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{
			ID: fsm.NodeID(name), Name: "host-" + name, Incarnation: 1, Executor: "process", Version: "test",
			Capacity: pipeline.Resources{CPU: 8000, Memory: 16 << 30},
		}}})
	}
	return w
}

func (w *world) add(name string, change func(*api.Config)) {
	n := &node{Replica: replica.New(), w: w, id: fsm.NodeID(name), hasLog: true, logs: logDir(w.t.TempDir()), bundles: &bundleMap{}, blobs: &bundleMap{}}
	var err error
	if n.auth, err = api.NewAuth(apiSecret, time.Now); err != nil {
		w.t.Fatal(err)
	}
	if n.inbox, err = inbox.Open(filepath.Join(w.t.TempDir(), "inbox.db"), inbox.Bounds{}, discard()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := n.inbox.Close(); err != nil {
			w.t.Error(err)
		}
	})
	config := api.Config{
		URL: "http://" + name, Version: "test", HoldWithoutLeader: 50 * time.Millisecond, HoldForIndex: 50 * time.Millisecond,
		BundleLimit: 1 << 20,
		Check:       func(c fsm.Commit) error { return agent.CheckCommit(c, []string{"https", "ssh"}) },
	}
	if change != nil {
		change(&config)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(api.NewCollector(n, n))
	n.server, err = api.New(config, api.Deps{
		State: n, Proposer: n, Cluster: n, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(w.t), Auth: n.auth,
		Hooks: http.HandlerFunc(n.hook), Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Crash: n.crasher(),
	}, slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		w.t.Fatal(err)
	}
	n.public = httptest.NewServer(n.server.Handler())
	n.private = httptest.NewServer(n.server.NodeHandler())
	w.t.Cleanup(n.public.Close)
	w.t.Cleanup(n.private.Close)
	w.nodes[n.id] = n
	w.order = append(w.order, n.id)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// elect makes a node the leader; "" makes it nobody.
func (w *world) elect(id fsm.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = id
	close(w.changed)
	w.changed = make(chan struct{})
}

// propose applies a command on all nodes that follow the log.
func (w *world) propose(c fsm.Command) fsm.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	c.At = time.Now().UTC()
	data, err := fsm.EncodeCommand(c)
	if err != nil {
		w.t.Error(err)
	}
	entry, err := fsm.JoinEntry([][]byte{data})
	if err != nil {
		w.t.Error(err)
	}
	var result fsm.Result
	for _, n := range w.nodes {
		if !n.hasLog {
			continue
		}
		out, err := n.Apply(w.index, 1, entry)
		if err != nil {
			w.t.Error(err)
		}
		result = out.([]fsm.Result)[0]
	}
	return result
}

// must proposes what has to be taken.
func (w *world) must(c fsm.Command) fsm.Result {
	w.t.Helper()
	r := w.propose(c)
	if r.Err != nil {
		w.t.Fatal(r.Err)
	}
	return r
}

func (n *node) Propose(_ context.Context, c fsm.Command) (fsm.Result, error) {
	n.w.mu.Lock()
	leads := n.w.leader == n.id
	n.w.mu.Unlock()
	if !leads {
		return fsm.Result{}, fmt.Errorf("propose: %w", api.ErrNotLeader)
	}
	r := n.w.propose(c)
	return r, r.Err
}

func (n *node) ProposeAll(ctx context.Context, commands []fsm.Command) (out []fsm.Result, err error) {
	for _, c := range commands {
		r, err := n.Propose(ctx, c)
		if errors.Is(err, api.ErrNotLeader) {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (n *node) Self() fsm.NodeID { return n.id }

func (n *node) Leader() (api.Leader, <-chan struct{}) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	tell(n.asked)
	leader := n.w.leader
	if n.believes != "" {
		leader = n.believes
	}
	if leader == "" {
		return api.Leader{}, n.w.changed
	}
	return api.Leader{ID: leader, APIAddr: strings.TrimPrefix(n.w.nodes[leader].public.URL, "http://")}, n.w.changed
}

// Wait overrides the replica's, to tell that somebody waits.
func (n *node) Wait(ctx context.Context, index uint64) (*fsm.State, error) {
	tell(n.waits)
	return n.Replica.Wait(ctx, index)
}

func tell(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // nobody wants to know, or knows already
	}
}

func (n *node) Members() []api.Member {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var out []api.Member
	for _, id := range n.w.order {
		m := n.w.nodes[id]
		out = append(out, api.Member{ID: id, Name: "host-" + string(id), Role: "voter", Leader: id == n.w.leader, Alive: !m.down, Full: m.full, Version: "test"})
	}
	return out
}

func (n *node) HasLog() bool { return n.hasLog }

func (n *node) VerifyLeader(context.Context) error {
	n.verified++
	return n.verify
}

// crasher takes part in drills, but for the node named shy.
func (n *node) crasher() func(time.Duration) error {
	if n.id == "shy" {
		return nil
	}
	return func(down time.Duration) error {
		n.w.mu.Lock()
		defer n.w.mu.Unlock()
		n.crashed = append(n.crashed, down)
		return nil
	}
}

func (n *node) Leave(context.Context) error { n.left = true; return nil }

func (n *node) Health() api.Health {
	return api.Health{ClusterID: "c1", Voters: len(n.w.order), AliveVoters: len(n.w.order), Tolerance: "stands it"}
}

func (n *node) Why(_ context.Context, job fsm.JobID) ([]fsm.Reason, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.leader != n.id {
		return nil, errors.New("asked at " + string(n.id) + ", which does not lead")
	}
	return []fsm.Reason{{Node: n.id, Code: fsm.ReasonCPU, Message: "too little for " + job.String()}}, nil
}

func (n *node) hook(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", n.id, r.URL.Path, body)
}

// Node implements api.Transport: over real connections, so that answers stream.
func (n *node) Node(id fsm.NodeID) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme != "http" || r.URL.Host != string(id) {
			return nil, fmt.Errorf("URL %s is not of node %s", r.URL, id)
		}
		n.w.mu.Lock()
		to := n.w.nodes[id]
		down := to == nil || to.down || to.deaf
		n.w.mu.Unlock()
		n.w.requests.Add(1)
		if down {
			return nil, errors.New("connection refused")
		}
		r = r.Clone(r.Context())
		if r.Host == "" {
			r.Host = r.URL.Host
		}
		r.URL.Host = strings.TrimPrefix(to.private.URL, "http://")
		return http.DefaultTransport.RoundTrip(r)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// logDir are attempts' logs as files. A file ".done" beside one says that nothing
// more comes.
type logDir string

func (d logDir) path(job fsm.JobID, n int) string {
	return filepath.Join(string(d), fmt.Sprintf("%s-%d", job, n))
}

func (d logDir) Open(job fsm.JobID, n int, offset int64) (*joblog.Reader, error) {
	return joblog.Open(d.path(job, n), offset)
}

func (d logDir) Follow(ctx context.Context, job fsm.JobID, n int, offset int64) (iter.Seq2[joblog.Line, error], error) {
	if _, err := os.Stat(d.path(job, n)); err != nil {
		return nil, err
	}
	return joblog.Follow(ctx, d.path(job, n), offset, nil), nil
}

func (d logDir) write(t *testing.T, job fsm.JobID, n int, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(d.path(job, n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, line := range lines {
		fmt.Fprintf(f, "2026-11-24T09:00:00.000Z\t0\t%s\n", line)
	}
}

// blobs are a node's, and by Fetch those of all nodes that can be reached.
type blobs struct{ n *node }

func (b blobs) Put(ctx context.Context, r io.Reader, limit int64) (string, int64, error) {
	return b.n.blobs.Put(ctx, r, limit)
}

func (b blobs) Open(digest string) (io.ReadCloser, int64, error) {
	f, size, err := b.n.blobs.Open(digest)
	if err != nil {
		err = api.ErrNoBlob
	}
	return f, size, err
}

func (b blobs) Fetch(_ context.Context, blob fsm.Blob) (io.ReadCloser, error) {
	for _, id := range append([]fsm.NodeID{b.n.id}, blob.Holders...) {
		if f, _, err := (blobs{b.n.w.nodes[id]}).Open(blob.Digest); err == nil && !b.n.w.nodes[id].down {
			return f, nil
		}
	}
	return nil, api.ErrNoBlob
}

// sealed are the same, as logs.
type sealed struct{ blobs }

func (s sealed) Read(ctx context.Context, b fsm.Blob, offset int64) (*joblog.Reader, error) {
	f, err := s.Fetch(ctx, b)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	path := filepath.Join(s.n.w.t.TempDir(), "sealed")
	if err := errors.Join(err, f.Close(), os.WriteFile(path, data, 0o600)); err != nil {
		return nil, err
	}
	return joblog.OpenSealed(path, offset)
}

// giver gives what is among the node's blobs.
type giver struct{ n *node }

func (g giver) Give(ctx context.Context, _ fsm.BlobKind, digest string, to fsm.NodeID) error {
	f, _, err := blobs(g).Open(digest)
	if err != nil {
		return err
	}
	_, _, err = g.n.w.nodes[to].blobs.Put(ctx, f, 1<<20)
	return errors.Join(err, f.Close())
}

// deliveries are a node's inbox. A replay answers with build 7, or anew with 8.
type deliveries struct {
	*inbox.Inbox
	n *node
}

func (d deliveries) Replay(_ context.Context, id, again string) (inbox.Delivery, error) {
	found, _, err := d.Find(id)
	if err != nil {
		return found, err
	}
	if !found.Verified {
		return found, inbox.ErrUnverified
	}
	o := inbox.Outcome{Status: inbox.Known, Build: 7}
	if again != "" {
		o = inbox.Outcome{Status: inbox.Accepted, Build: 8}
		d.n.again = append(d.n.again, again)
	}
	if err := d.Replayed(id, o); err != nil {
		return found, err
	}
	found, _, err = d.Find(id)
	found.Outcome = o
	return found, err
}

type bundleMap struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (b *bundleMap) Put(_ context.Context, r io.Reader, _ int64) (string, int64, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", 0, fmt.Errorf("put: %w", err)
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = map[string][]byte{}
	}
	b.m[digest] = data
	return digest, int64(len(data)), nil
}

func (b *bundleMap) Open(digest string) (io.ReadCloser, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.m[digest]
	if !ok {
		return nil, 0, api.ErrNoBundle
	}
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

// call sends a request with the token and without following redirects.
func (n *node) call(method, path, body string, headers ...string) *answer {
	return n.bare(method, path, body, append([]string{"Authorization", "Bearer " + n.auth.Token()}, headers...)...)
}

var plainClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (n *node) bare(method, path, body string, headers ...string) *answer {
	n.w.t.Helper()
	req, err := http.NewRequestWithContext(n.w.t.Context(), method, n.public.URL+path, strings.NewReader(body))
	if err != nil {
		n.w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := plainClient.Do(req)
	if err != nil {
		n.w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return &answer{t: n.w.t, status: resp.StatusCode, header: resp.Header, trailer: resp.Trailer, body: string(text)}
}

// do sends a request as it is.
func do(t *testing.T, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := plainClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

type answer struct {
	t       *testing.T
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func (a *answer) wantProblem(status int, code string) *answer {
	a.t.Helper()
	a.want(status)
	var p api.Problem
	a.into(&p)
	if p.Code != code || p.Detail == "" || p.Status != status {
		a.t.Fatalf("problem %+v, want code %s", p, code)
	}
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		a.t.Fatalf("content type %q", kind)
	}
	return a
}

func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

const sha = "0123456789abcdef0123456789abcdef01234567"

// build adds a build with planned jobs.
func (w *world) build(jobs ...string) fsm.BuildID {
	w.t.Helper()
	id := w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: fmt.Sprint("k", w.index), Commit: fsm.Commit{
		Repo: "acme/api", CloneURL: "https://example.org/acme/api.git", SHA: sha, Ref: "refs/heads/main", Event: fsm.EventPush,
	}}}).Build
	if len(jobs) > 0 {
		w.plan(id, jobs...)
	}
	return id
}

// plan has a build's plan bring jobs.
func (w *world) plan(id fsm.BuildID, jobs ...string) {
	w.t.Helper()
	p := &pipeline.Pipeline{}
	for _, name := range jobs {
		p.Jobs = append(p.Jobs, pipeline.Job{
			Name: name, Image: "alpine", Resources: pipeline.Resources{CPU: 100, Memory: 1 << 20}, Steps: []pipeline.Step{{Name: "step"}},
		})
	}
	plan := fsm.JobID{Build: id}
	w.assign(plan, w.order[0])
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: p})
}

func (w *world) ref(id fsm.JobID) fsm.AttemptRef {
	j, _ := w.nodes[w.order[0]].State().Job(id)
	a, _ := j.Current()
	return j.Ref(a)
}

func (w *world) assign(id fsm.JobID, to fsm.NodeID) {
	w.t.Helper()
	j, _ := w.nodes[w.order[0]].State().Job(id)
	w.must(fsm.Command{AssignJob: &fsm.AssignJob{Job: id, N: len(j.Attempts) + 1, Node: to, Incarnation: 1}})
}

func (w *world) start(id fsm.JobID) {
	w.t.Helper()
	w.must(fsm.Command{StartAttempt: &fsm.StartAttempt{Ref: w.ref(id)}})
}

func (w *world) finish(id fsm.JobID, o fsm.Outcome) {
	w.t.Helper()
	w.must(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: w.ref(id), Outcome: o}})
}

func job(build fsm.BuildID, seq uint32) fsm.JobID { return fsm.JobID{Build: build, Seq: seq} }
