package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// writes are all that changes something and goes to the leader.
var writes = [][2]string{
	{"/api/v1/builds", newBuild}, {"/api/v1/builds/1/retry", ""}, {"/api/v1/nodes/a/drain", ""}, {"/api/v1/nodes/a/resume", ""}, {"/api/v1/builds/1/cancel", ""},
}

func TestWritesAtAFollowerAreSentToTheLeader(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build()
	leader := strings.TrimPrefix(w.nodes["a"].public.URL, "http://")
	for _, write := range writes {
		path := write[0] + "?x=%2F1"
		before := w.index
		a := w.nodes["b"].call("POST", path, write[1]).want(307)
		if got, want := a.header.Get("Location"), "http://"+leader+path; got != want || a.header.Get(api.HeaderLeader) != leader {
			t.Errorf("Location %q, %s %q; want %q", got, api.HeaderLeader, a.header.Get(api.HeaderLeader), want)
		}
		if w.index != before {
			t.Errorf("POST %s changed something at the follower", path)
		}
		if status := w.nodes["a"].call("POST", path, write[1]).status; status/100 != 2 {
			t.Errorf("POST %s at the leader: status %d", path, status)
		}
	}
}

func TestForwardCarriesWrites(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Forward = true }, "a", "b")
	w.build()
	for _, write := range writes {
		a := w.nodes["b"].call("POST", write[0], write[1], "Idempotency-Key", write[0])
		if a.status/100 != 2 || a.header.Get("Location") != "" || len(a.header[api.HeaderIndex]) != 1 {
			t.Errorf("POST %s: %d %v %s", write[0], a.status, a.header, a.body)
		}
	}
	if got := w.nodes["b"].State().BuildCount(); got != 3 {
		t.Errorf("%d builds, want 3", got)
	}
	w.nodes["b"].call("POST", "/api/v1/builds", `{}`).wantProblem(422, api.CodeInvalid) // as the leader says it
	w.nodes["a"].down = true
	w.nodes["b"].call("POST", "/api/v1/builds", newBuild).wantProblem(503, api.CodeNodeUnreachable)
}

// TestHooks takes them wherever they come, also while nobody leads.
func TestHooks(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	for _, leader := range []fsm.NodeID{"a", ""} {
		w.elect(leader)
		for _, path := range []string{"/hooks/github", "/commit"} {
			for _, n := range w.nodes {
				if got, want := n.bare("POST", path, "text").want(200).body, string(n.id)+" "+path+" text"; got != want {
					t.Errorf("asked at %s: %q, want %q", n.id, got, want)
				}
			}
		}
	}
	w.nodes["b"].call("GET", "/hooks/github", "").wantProblem(404, api.CodeNotFound)
}

// TestOneHopOnly has two nodes believe of each other that they lead.
func TestOneHopOnly(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Forward = true }, "a", "b")
	w.nodes["a"].believes = "b"
	w.nodes["b"].believes = "a"
	for _, path := range []string{"/api/v1/push", "/api/v1/builds/1/retry"} {
		for _, forged := range []string{"", "-5", "x"} {
			headers := []string{}
			if forged != "" {
				headers = []string{"X-Narwhal-Passed", forged}
			}
			before := w.requests.Load()
			a := w.nodes["a"].call("POST", path, "", headers...).wantProblem(503, api.CodeLoop)
			if a.header.Get("Retry-After") == "" {
				t.Error("it is not to be tried again")
			}
			if got := w.requests.Load() - before; got > 1 {
				t.Errorf("POST %s went from node to node %d times", path, got)
			}
		}
	}
	// One that was passed on is not sent elsewhere either: who passed it on would
	// hand the redirect to a forge.
	w = newWorld(t, nil, "a", "b", "c")
	w.elect("c")
	w.nodes["a"].believes = "b"
	w.nodes["a"].call("GET", "/api/v1/builds?consistent", "").wantProblem(503, api.CodeLoop)
}

func TestIndexAndConsistentReads(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build()
	n := w.nodes["b"]
	at := fmt.Sprint(w.index)
	for _, path := range []string{"/api/v1/builds", "/api/v1/builds/1", "/api/v1/jobs", "/api/v1/jobs/1.0", "/api/v1/nodes", "/api/v1/status", "/api/v1/jobs/1.0/logs", "/"} {
		if got := n.call("GET", path, "").want(200).header[api.HeaderIndex]; len(got) != 1 || got[0] != at {
			t.Errorf("GET %s: index %q, want %s", path, got, at)
		}
	}
	n.call("GET", "/api/v1/builds/1?index="+at, "").want(200)
	n.call("GET", fmt.Sprintf("/api/v1/builds/1?index=%d", w.index+1), "").wantProblem(503, api.CodeIndexTimeout)

	// A consistent read is the leader's, which asks a majority first.
	for _, query := range []string{"consistent", "consistent=true", "consistent=1"} {
		before := w.nodes["a"].verified
		n.call("GET", "/api/v1/builds?"+query, "").want(200)
		if w.nodes["a"].verified != before+1 {
			t.Errorf("?%s was answered without the leader", query)
		}
	}
	before := w.nodes["a"].verified
	n.call("GET", "/api/v1/builds?consistent=false", "").want(200)
	if w.nodes["a"].verified != before {
		t.Error("a plain read went to the leader")
	}
	w.nodes["a"].verify = context.DeadlineExceeded
	n.call("GET", "/api/v1/builds?consistent", "").wantProblem(503, api.CodeNotLeader)
	w.elect("")
	n.call("GET", "/api/v1/builds?consistent", "").wantProblem(503, api.CodeNoLeader)
	n.call("GET", "/api/v1/builds", "").want(200) // a plain read needs nobody
}

// TestReadYourWrite reads at a follower that has not come to the write yet.
func TestReadYourWrite(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.HoldForIndex = 10 * time.Second }, "a", "b")
	n := w.nodes["b"]
	n.waits = make(chan struct{}, 1)
	index := w.index + 1
	var adding sync.WaitGroup
	adding.Go(func() {
		<-n.waits
		w.build()
	})
	var b api.Build
	n.call("GET", fmt.Sprintf("/api/v1/builds/1?index=%d", index), "").want(200).into(&b)
	adding.Wait()
	if b.ID != 1 {
		t.Errorf("build %+v", b)
	}
}

// TestHeldUntilThereIsALeader asks for what the leader alone can say, during an election.
func TestHeldUntilThereIsALeader(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.HoldWithoutLeader = 10 * time.Second }, "a", "b")
	w.elect("")
	n := w.nodes["b"]
	n.asked = make(chan struct{}, 1)
	var electing sync.WaitGroup
	electing.Go(func() {
		<-n.asked
		w.elect("a")
	})
	n.call("GET", "/api/v1/builds?consistent", "").want(200)
	electing.Wait()
}

// TestHoldEnds is in virtual time: no leader for as long as the default says.
func TestHoldEnds(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	synctest.Test(t, func(t *testing.T) {
		none := leaderless{n, make(chan struct{})}
		server, err := api.New(api.Config{URL: "http://x", Check: func(fsm.Commit) error { return nil }}, api.Deps{
			State: n, Proposer: n, Cluster: none, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(n.w.t), Auth: n.auth, Hooks: http.HandlerFunc(n.hook),
		}, discard())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		r := httptest.NewRequest("GET", "/api/v1/builds?consistent", nil)
		r.Header.Set("Authorization", "Bearer "+n.auth.Token())
		resp := httptest.NewRecorder()
		server.Handler().ServeHTTP(resp, r)
		if took := time.Since(start); resp.Code != 503 || took != 5*time.Second {
			t.Errorf("status %d after %s, want 503 after 5s", resp.Code, took)
		}
	})
}

type leaderless struct {
	*node
	never chan struct{}
}

func (l leaderless) Leader() (api.Leader, <-chan struct{}) { return api.Leader{}, l.never }

// TestNodeWithoutLog has a node that is none of the voters: what it is asked, the
// leader answers.
func TestNodeWithoutLog(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["b"]
	n.hasLog = false
	w.build("test")
	var b api.Build
	a := n.call("GET", "/api/v1/builds/1", "").want(200)
	a.into(&b)
	if b.ID != 1 || a.header.Get(api.HeaderIndex) != fmt.Sprint(w.index) {
		t.Errorf("build %+v at index %s", b, a.header.Get(api.HeaderIndex))
	}
	s := n.stream("/api/v1/builds/1/events")
	if e := s.next(); e.name != "build" {
		t.Errorf("event %+v", e)
	}
	w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 1, By: "t"}})
	if e := s.next(); e.name != "end" || !strings.Contains(e.data, `"canceled"`) {
		t.Errorf("event %+v", e)
	}
	if body := n.call("GET", "/builds/1", "").want(200).body; !strings.Contains(body, "acme/api") {
		t.Errorf("page %s", body)
	}
	w.nodes["a"].down = true
	n.call("GET", "/api/v1/builds/1", "").wantProblem(503, api.CodeNodeUnreachable)
}

func TestStatusAndHealth(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["b"]
	w.build("test")
	var s api.Status
	n.call("GET", "/api/v1/status", "").want(200).into(&s)
	if s.ClusterID != "c1" || s.Node != "b" || s.Leader == nil || s.Leader.ID != "a" || s.Leader.Self || len(s.Members) != 2 ||
		s.Builds.Kept != 1 || s.Builds.Live != 1 || s.Jobs.Queued != 1 || s.Index != w.index || s.Version != "test" {
		t.Errorf("status %+v", s)
	}
	var l api.LeaderView
	w.nodes["a"].call("GET", "/api/v1/leader", "").want(200).into(&l)
	if l.ID != "a" || l.Name != "host-a" || !l.Self || "http://"+l.APIAddr != w.nodes["a"].public.URL {
		t.Errorf("leader %+v", l)
	}
	n.bare("GET", "/healthz", "").want(200)
	w.elect("")
	for _, path := range []string{"/healthz", "/api/v1/health"} {
		n.bare("GET", path, "").wantProblem(503, api.CodeNoLeader)
	}
	n.call("GET", "/api/v1/leader", "").wantProblem(503, api.CodeNoLeader)
	n.call("GET", "/api/v1/status", "").want(200).into(&s)
}

// TestFollowerThatIsBehind asks a node whose copy has not come to a build yet.
func TestFollowerThatIsBehind(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	b := w.nodes["b"]
	first := w.build("test")
	b.hasLog = false // it misses what follows
	second := w.build("test")
	b.hasLog = true
	if _, ok := b.State().Build(second); ok {
		t.Fatal("it is not behind")
	}
	before := w.requests.Load()
	b.call("GET", fmt.Sprintf("/api/v1/builds/%d", first), "").want(200)
	b.call("GET", fmt.Sprintf("/api/v1/jobs/%d.1", first), "").want(200)
	if n := w.requests.Load() - before; n != 0 {
		t.Errorf("what it knows it asked the leader for, %d times", n)
	}
	for _, path := range []string{"/api/v1/builds/%d", "/api/v1/jobs/%d.1", "/api/v1/builds/%d/tests"} {
		b.call("GET", fmt.Sprintf(path, second), "").want(200)
	}
	// A client that has heard of the build elsewhere knows an index of before.
	b.call("GET", fmt.Sprintf("/api/v1/builds/%d?index=1", second), "").want(200)
	b.call("GET", fmt.Sprintf("/api/v1/builds/%d", second+1), "").wantProblem(404, api.CodeNotFound)
}
