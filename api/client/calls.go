package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

const prefix = "/api/v1"

// Filter says which builds or jobs to list. Zero fields say nothing.
type Filter struct {
	Before fsm.BuildID
	Limit  int // 1 to 200, 50 by default
	Status fsm.Status
	Repo   string      // builds
	Branch string      // builds
	Node   string      // jobs: ID or name
	Build  fsm.BuildID // jobs
}

func (f Filter) query() url.Values {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" && value != "0" {
			q.Set(key, value)
		}
	}
	set("before", number(f.Before))
	set("limit", strconv.Itoa(f.Limit))
	set("status", string(f.Status))
	set("repo", f.Repo)
	set("branch", f.Branch)
	set("node", f.Node)
	set("build", number(f.Build))
	return q
}

func number(id fsm.BuildID) string { return strconv.FormatUint(uint64(id), 10) }

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.call(ctx, &request{method: http.MethodGet, path: prefix + path, query: query}, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path, key string) (T, error) {
	var out T
	err := c.call(ctx, &request{method: http.MethodPost, path: prefix + path, key: key}, &out)
	return out, err
}

// BuildList is a page of builds.
type BuildList struct {
	Builds []api.Build `json:"builds"`
	Next   fsm.BuildID `json:"next,omitempty"` // Before of the next page, 0 on the last
}

// Builds lists builds, the newest first.
func (c *Client) Builds(ctx context.Context, f Filter) (BuildList, error) {
	return get[BuildList](ctx, c, "/builds", f.query())
}

// Build shows a build with its jobs.
func (c *Client) Build(ctx context.Context, id fsm.BuildID) (api.Build, error) {
	return get[api.Build](ctx, c, "/builds/"+number(id), nil)
}

// BuildNow gives a build as the leader has it, once a majority has confirmed that it still
// leads: a read is no older than what anybody has seen before.
func (c *Client) BuildNow(ctx context.Context, id fsm.BuildID) (api.Build, error) {
	return get[api.Build](ctx, c, "/builds/"+number(id), url.Values{"consistent": {"true"}})
}

// CreateBuild builds a commit; key is one of NewKey.
func (c *Client) CreateBuild(ctx context.Context, b api.NewBuild, key string) (api.Build, error) {
	var out api.Build
	body, size, err := jsonBody(b)
	if err != nil {
		return out, err
	}
	err = c.call(ctx, &request{
		method: http.MethodPost, path: prefix + "/builds", key: key, kind: "application/json", body: body, size: size,
	}, &out)
	return out, err
}

// CancelBuild ends a build.
func (c *Client) CancelBuild(ctx context.Context, id fsm.BuildID) (api.Build, error) {
	return post[api.Build](ctx, c, "/builds/"+number(id)+"/cancel", NewKey())
}

// RetryBuild builds the same commit again; key is one of NewKey.
func (c *Client) RetryBuild(ctx context.Context, id fsm.BuildID, key string) (api.Build, error) {
	return post[api.Build](ctx, c, "/builds/"+number(id)+"/retry", key)
}

// JobList is a page of jobs.
type JobList struct {
	Jobs []api.Job   `json:"jobs"`
	Next fsm.BuildID `json:"next,omitempty"` // Before of the next page, 0 on the last
}

// Jobs lists jobs, the newest build's first.
func (c *Client) Jobs(ctx context.Context, f Filter) (JobList, error) {
	return get[JobList](ctx, c, "/jobs", f.query())
}

// Job shows a job with its attempts.
func (c *Client) Job(ctx context.Context, id fsm.JobID) (api.Job, error) {
	return get[api.Job](ctx, c, "/jobs/"+id.String(), nil)
}

// Why says what keeps a job from running.
func (c *Client) Why(ctx context.Context, id fsm.JobID) (api.Explanation, error) {
	return get[api.Explanation](ctx, c, "/jobs/"+id.String()+"/why", nil)
}

// Timeline shows what happened to a build.
func (c *Client) Timeline(ctx context.Context, id fsm.BuildID) (api.Timeline, error) {
	return get[api.Timeline](ctx, c, "/builds/"+number(id)+"/timeline", nil)
}

// Audit lists who did what below before, or the newest where it is 0.
func (c *Client) Audit(ctx context.Context, before uint64, limit int) (api.AuditLog, error) {
	return get[api.AuditLog](ctx, c, "/audit", url.Values{"before": {strconv.FormatUint(before, 10)}, "limit": {strconv.Itoa(limit)}})
}

// Schedules lists what the clock starts: of a repository, or all where it is empty.
func (c *Client) Schedules(ctx context.Context, repo string) ([]api.Schedule, error) {
	out, err := get[struct {
		Schedules []api.Schedule `json:"schedules"`
	}](ctx, c, "/schedules", ofRepo(repo))
	return out.Schedules, err
}

// RemoveSchedules forgets a branch's schedules.
func (c *Client) RemoveSchedules(ctx context.Context, repo, branch string) error {
	return c.remove(ctx, "/schedules", url.Values{"repo": {repo}, "branch": {branch}})
}

// HookFilter says which webhooks to list. Zero fields say nothing.
type HookFilter struct {
	Repo    string
	Outcome inbox.Status
	Limit   int // 1 to 200
}

// Hooks lists the webhooks that came to any node, the newest first.
func (c *Client) Hooks(ctx context.Context, f HookFilter) (api.DeliveryList, error) {
	q := url.Values{"limit": {strconv.Itoa(f.Limit)}}
	if f.Repo != "" {
		q.Set("repo", f.Repo)
	}
	if f.Outcome != "" {
		q.Set("outcome", string(f.Outcome))
	}
	return get[api.DeliveryList](ctx, c, "/hooks", q)
}

// Hook shows a webhook that came in, with its body.
func (c *Client) Hook(ctx context.Context, id string) (api.DeliveryBody, error) {
	return get[api.DeliveryBody](ctx, c, "/hooks/"+url.PathEscape(id), nil)
}

// ReplayHook hands a webhook in once more; with force its commit is built anew. key is
// one of NewKey.
func (c *Client) ReplayHook(ctx context.Context, id string, force bool, key string) (api.Delivery, error) {
	var out api.Delivery
	err := c.call(ctx, &request{
		method: http.MethodPost, path: prefix + "/hooks/" + url.PathEscape(id) + "/replay", query: url.Values{"force": {strconv.FormatBool(force)}}, key: key,
	}, &out)
	return out, err
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	out, err := get[struct {
		Nodes []api.Node `json:"nodes"`
	}](ctx, c, "/nodes", nil)
	return out.Nodes, err
}

// Drain stops giving a node, by its ID or name, new jobs; Resume gives it jobs again.
func (c *Client) Drain(ctx context.Context, node string) (api.Node, error) {
	return post[api.Node](ctx, c, "/nodes/"+url.PathEscape(node)+"/drain", NewKey())
}

// DrainWithin is Drain, and has what still runs on the node after d stopped, to run
// elsewhere.
func (c *Client) DrainWithin(ctx context.Context, node string, d time.Duration) (api.Node, error) {
	var out api.Node
	err := c.call(ctx, &request{
		method: http.MethodPost, path: prefix + "/nodes/" + url.PathEscape(node) + "/drain", query: url.Values{"deadline": {d.String()}}, key: NewKey(),
	}, &out)
	return out, err
}

// Resume gives a drained node jobs again.
func (c *Client) Resume(ctx context.Context, node string) (api.Node, error) {
	return post[api.Node](ctx, c, "/nodes/"+url.PathEscape(node)+"/resume", NewKey())
}

// Crash ends a node's process as a crash would, for a drill, and keeps it away for down,
// at least. It is sent once.
func (c *Client) Crash(ctx context.Context, node string, down time.Duration) error {
	q := url.Values{"down": {down.String()}}
	resp, err := c.send(ctx, &request{method: http.MethodPost, path: prefix + "/nodes/" + url.PathEscape(node) + "/crash", query: q}, 0)
	if err != nil {
		return fmt.Errorf("crash node %s: %w", node, err)
	}
	return resp.Body.Close()
}

// Leader is the node that leads, as the node that is asked knows it.
func (c *Client) Leader(ctx context.Context) (api.LeaderView, error) {
	return get[api.LeaderView](ctx, c, "/leader", nil)
}

// Status says how the cluster stands.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return get[api.Status](ctx, c, "/status", nil)
}

// Left is the answer of a node that has left.
type Left struct {
	Node fsm.NodeID `json:"node"`
	Left bool       `json:"left"`
}

// Leave takes the node that answers out of its cluster for good.
func (c *Client) Leave(ctx context.Context) (Left, error) {
	return post[Left](ctx, c, "/leave", "")
}

// ReadLog copies what there is of a job's log to w, as text; attempt 0 is the current
// one.
func (c *Client) ReadLog(ctx context.Context, job fsm.JobID, attempt int, w io.Writer) error {
	return c.readLog(ctx, job, attempt, "text", w)
}

// ReadLogLines copies a log to w as a JSON object a line.
func (c *Client) ReadLogLines(ctx context.Context, job fsm.JobID, attempt int, w io.Writer) error {
	return c.readLog(ctx, job, attempt, "ndjson", w)
}

func (c *Client) readLog(ctx context.Context, job fsm.JobID, attempt int, format string, w io.Writer) error {
	q := url.Values{"format": {format}}
	if attempt > 0 {
		q.Set("attempt", strconv.Itoa(attempt))
	}
	resp, err := c.send(ctx, &request{method: http.MethodGet, path: prefix + "/jobs/" + job.String() + "/logs", query: q}, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read log of job %s: %w", job, err)
	}
	return nil
}

// Push is a commit that is brought along in a git bundle.
type Push struct {
	Repo, SHA, Ref, Message, Author string
	Inputs                          []string // name=value
	Key                             string   // one of NewKey
	Size                            int64    // of the bundle, bytes
	// Open gives the bundle from its beginning; it may be called several times.
	Open func() (io.ReadCloser, error)
}

// Push has the cluster build it. It returns once the bundle lies on two nodes, where
// there are two.
func (c *Client) Push(ctx context.Context, p Push) (api.Pushed, error) {
	q := url.Values{"repo": {p.Repo}, "sha": {p.SHA}, "ref": {p.Ref}, "message": {p.Message}, "author": {p.Author}, "input": p.Inputs}
	var out api.Pushed
	err := c.call(ctx, &request{
		method: http.MethodPost, path: prefix + "/push", query: q, key: p.Key,
		kind: "application/octet-stream", body: p.Open, size: p.Size,
	}, &out)
	return out, err
}
