package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

// caller is the Go client on a world, and what it asked for.
type caller struct {
	*client.Client
	mu    sync.Mutex
	asked map[string]bool // method and path
}

func newCaller(t *testing.T, token string, at ...*node) *caller {
	t.Helper()
	c := &caller{asked: map[string]bool{}}
	config := client.Config{Token: token, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		c.mu.Lock()
		c.asked[r.Method+" "+r.URL.Path] = true
		c.mu.Unlock()
		return http.DefaultTransport.RoundTrip(r)
	})}
	for _, n := range at {
		config.Addrs = append(config.Addrs, n.public.URL)
	}
	var err error
	if c.Client, err = client.New(config); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClient makes every call of the client's at a follower, against the real API.
func TestClient(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "c")
	n := w.nodes["b"]
	c := newCaller(t, n.auth.Token(), n)
	ctx := t.Context()
	ok := func(what string, good bool, err error) {
		t.Helper()
		if err != nil || !good {
			t.Errorf("%s: %v", what, err)
		}
	}
	key := client.NewKey()
	made := api.NewBuild{Repo: "acme/api", CloneURL: "https://example.org/acme/api.git", SHA: sha, Ref: "refs/heads/main"}
	b, err := c.CreateBuild(ctx, made, key)
	ok("create", b.ID == 1 && b.Repo == "acme/api", err)
	again, err := c.CreateBuild(ctx, made, key)
	ok("create again", again.ID == 1, err)
	b, err = c.RetryBuild(ctx, 1, client.NewKey())
	ok("retry", b.ID == 2 && b.RetryOf == 1, err)
	b, err = c.CancelBuild(ctx, 2)
	ok("cancel", b.Status == fsm.Canceled, err)
	b, err = c.Build(ctx, 2)
	ok("show", b.Status == fsm.Canceled && len(b.Jobs) == 1, err)
	page, err := c.Builds(ctx, client.Filter{Limit: 1, Repo: "acme/api", Branch: "main"})
	ok("list", len(page.Builds) == 1 && page.Builds[0].ID == 2 && page.Next == 2, err)
	page, err = c.Builds(ctx, client.Filter{Before: page.Next, Status: fsm.Queued})
	ok("next page", len(page.Builds) == 1 && page.Builds[0].ID == 1 && page.Next == 0, err)

	opened := 0
	pushed, err := c.Push(ctx, client.Push{
		Repo: "acme/api", SHA: sha, Ref: "refs/heads/x", Message: "try & see", Author: "otter", Key: client.NewKey(), Size: int64(len(bundle)),
		Open: func() (io.ReadCloser, error) { opened++; return io.NopCloser(strings.NewReader(bundle)), nil },
	})
	ok("push", pushed.Copies == 2 && pushed.Size == int64(len(bundle)) && pushed.Build.Message == "try & see" && opened == 1, err)

	id := job(w.build("test"), 1)
	explained, err := c.Why(ctx, id)
	ok("why", len(explained.Reasons) == 1, err)
	w.assign(id, "a")
	w.start(id)
	w.nodes["a"].logs.write(t, id, 1, "one", "two")
	jobs, err := c.Jobs(ctx, client.Filter{Build: id.Build, Node: "host-a", Status: fsm.Running})
	ok("jobs", len(jobs.Jobs) == 1 && jobs.Jobs[0].ID == id, err)
	j, err := c.Job(ctx, id)
	ok("job", j.Name == "test" && j.Node == "a", err)
	var text bytes.Buffer
	err = c.ReadLog(ctx, id, 1, &text)
	ok("log", text.String() == "one\ntwo\n", err)
	text.Reset()
	err = c.ReadLogLines(ctx, id, 0, &text)
	ok("log lines", strings.Count(text.String(), `"text":"`) == 2, err)

	var lines []string
	err = c.FollowLog(ctx, id, 0, func(e client.LogEvent) error {
		switch {
		case e.Line != nil:
			lines = append(lines, e.Line.Text)
			if e.Line.Text == "two" {
				w.nodes["a"].logs.write(t, id, 1, "three")
				w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 9})
			}
		case e.End != nil:
			lines = append(lines, "end "+string(e.End.Status))
		}
		return nil
	})
	ok("follow log", slices.Equal(lines, []string{"one", "two", "three", "end passed"}), err)
	var last api.Build
	err = c.FollowBuild(ctx, id.Build, func(b api.Build) error { last = b; return nil })
	ok("follow build", last.Status == fsm.Passed, err)

	nodes, err := c.Nodes(ctx)
	ok("nodes", len(nodes) == 3, err)
	drained, err := c.Drain(ctx, "host-c")
	ok("drain", drained.ID == "c" && drained.Drained, err)
	drained, err = c.Resume(ctx, "c")
	ok("resume", drained.ID == "c" && !drained.Drained, err)
	status, err := c.Status(ctx)
	ok("status", status.Node == "b" && status.Leader.ID == "a", err)
	left, err := c.Leave(ctx)
	ok("leave", left.Left && left.Node == "b" && n.left && !w.nodes["a"].left, err)

	_, err = c.Build(ctx, 99)
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != api.CodeNotFound || p.Status != 404 {
		t.Errorf("no such build: %v", err)
	}
	_, err = newCaller(t, "nwa_wrong", n).Status(ctx)
	if !errors.As(err, &p) || p.Code != api.CodeUnauthorized || !strings.Contains(p.Detail, "not this cluster's") {
		t.Errorf("another cluster's token: %v", err)
	}
	c.documented(t, n)
}

// documented holds what the client asked for against the OpenAPI document.
func (c *caller) documented(t *testing.T, n *node) {
	t.Helper()
	var known []*regexp.Regexp
	for path, ops := range readDocument(t, n).Paths {
		for method := range ops {
			pattern := fmt.Sprintf("^%s %s$", strings.ToUpper(method), regexp.MustCompile(`\\{[^}]*\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+"))
			known = append(known, regexp.MustCompile(pattern))
		}
	}
	if len(c.asked) < 15 {
		t.Errorf("the client made %d different calls only", len(c.asked))
	}
	for call := range c.asked {
		if !slices.ContainsFunc(known, func(r *regexp.Regexp) bool { return r.MatchString(call) }) {
			t.Errorf("%s is not in the document", call)
		}
	}
}

// TestClientOutlivesTheLeader asks for builds while the leader goes.
func TestClientOutlivesTheLeader(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "c")
	c := newCaller(t, w.nodes["a"].auth.Token(), w.nodes["a"], w.nodes["b"])
	w.nodes["a"].public.CloseClientConnections()
	w.nodes["a"].public.Close() // and gossip still names it
	w.nodes["b"].asked = make(chan struct{}, 1)
	var electing sync.WaitGroup
	electing.Go(func() {
		<-w.nodes["b"].asked
		w.elect("b")
	})
	b, err := c.CreateBuild(t.Context(), api.NewBuild{Repo: "acme/api", CloneURL: "https://example.org/a/b.git", SHA: sha, Ref: "refs/heads/main"}, client.NewKey())
	electing.Wait()
	if err != nil || b.ID != 1 {
		t.Errorf("build %+v, %v", b, err)
	}
}
