package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

const bundle = "# v2 git bundle\n" + sha + " refs/heads/main\n\nPACK and so on"

func pushQuery() url.Values {
	return url.Values{"repo": {"acme/api"}, "sha": {sha}, "message": {"try it"}, "author": {"otter"}}
}

func (n *node) push(q url.Values, body string, headers ...string) *answer {
	n.w.t.Helper()
	return n.call("POST", "/api/v1/push?"+q.Encode(), body, append(headers, "Content-Type", "application/octet-stream")...)
}

func (b *bundleMap) digests() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for digest := range b.m {
		out = append(out, digest)
	}
	return out
}

func TestPush(t *testing.T) {
	sum := sha256.Sum256([]byte(bundle))
	digest := hex.EncodeToString(sum[:])
	for _, asked := range []string{"a", "b"} { // the leader and another node
		t.Run(asked, func(t *testing.T) {
			w := newWorld(t, nil, "a", "b", "c")
			a := w.nodes[fsm.NodeID(asked)].push(pushQuery(), bundle, "Idempotency-Key", "k").want(201)
			var p api.Pushed
			a.into(&p)
			if p.Bundle != digest || p.Size != int64(len(bundle)) || p.Copies != 2 || len(p.Nodes) != 2 || p.Nodes[0] != "a" || p.Nodes[1] == "a" {
				t.Fatalf("pushed %+v", p)
			}
			for _, id := range p.Nodes {
				if got := w.nodes[id].bundles.digests(); !slices.Equal(got, []string{digest}) {
					t.Errorf("node %s holds %v", id, got)
				}
			}
			b, ok := w.nodes["c"].State().Build(p.Build.ID)
			if !ok || b.Commit.Bundle != digest || !slices.Equal(b.Commit.Holders, p.Nodes) || b.Commit.Ref != "refs/heads/main" || b.Commit.Event != fsm.EventManual || b.Commit.Message != "try it" {
				t.Errorf("build %+v", b)
			}
			if a.header.Get(api.HeaderIndex) == "" {
				t.Error("the answer names no index")
			}
			var again api.Pushed
			w.nodes[fsm.NodeID(asked)].push(pushQuery(), bundle, "Idempotency-Key", "k").want(201).into(&again)
			if again.Build.ID != p.Build.ID {
				t.Errorf("pushed again with the same key it is build %d, was %d", again.Build.ID, p.Build.ID)
			}
		})
	}
}

func TestPushIsRefused(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	with := func(key, value string) url.Values {
		q := pushQuery()
		q.Set(key, value)
		return q
	}
	for name, q := range map[string]url.Values{
		"no repository": with("repo", ""), "a repository that climbs": with("repo", "../x"), "no SHA": with("sha", ""),
		"a SHA that is an option": with("sha", "--help"), "a ref that is an option": with("ref", "refs/heads/-x"),
		"a message of lines": with("message", "a\nb"),
	} {
		t.Run(name, func(t *testing.T) { n.push(q, bundle).wantProblem(422, api.CodeInvalid) })
	}
	for name, body := range map[string]string{
		"nothing": "", "less than a head": "# v2", "no bundle": "PK\x03\x04 a zip file and more of it", "a bundle of a later version": "# v4 git bundle\nx",
	} {
		t.Run(name, func(t *testing.T) { n.push(pushQuery(), body).wantProblem(422, api.CodeInvalid) })
	}
	large := bundle + strings.Repeat("x", 1<<20)
	n.push(pushQuery(), large).wantProblem(413, api.CodeTooLarge)
	w.nodes["b"].push(pushQuery(), large).wantProblem(413, api.CodeTooLarge)
	if got := n.State().BuildCount(); got != 0 {
		t.Errorf("refused pushes made %d builds", got)
	}
}

func TestPushWantsTwoCopies(t *testing.T) {
	t.Run("one that does not answer is passed over", func(t *testing.T) {
		w := newWorld(t, nil, "a", "b", "c")
		w.nodes["b"].deaf = true // gossip has not noticed yet
		var p api.Pushed
		w.nodes["a"].push(pushQuery(), bundle).want(201).into(&p)
		if !slices.Equal(p.Nodes, []fsm.NodeID{"a", "c"}) {
			t.Errorf("it lies on %v", p.Nodes)
		}
	})
	t.Run("refused while the other can't be reached", func(t *testing.T) {
		w := newWorld(t, nil, "a", "b")
		w.nodes["b"].deaf = true
		a := w.nodes["a"].push(pushQuery(), bundle).wantProblem(503, api.CodeNoCopy)
		if a.header.Get("Retry-After") == "" || w.nodes["a"].State().BuildCount() != 0 {
			t.Errorf("it was accepted, or not to be tried again: %s", a.body)
		}
	})
	t.Run("one copy in a cluster of one", func(t *testing.T) {
		w := newWorld(t, nil, "a")
		var p api.Pushed
		w.nodes["a"].push(pushQuery(), bundle).want(201).into(&p)
		if p.Copies != 1 || !slices.Equal(p.Nodes, []fsm.NodeID{"a"}) {
			t.Errorf("pushed %+v", p)
		}
	})
}

// TestBundlesBetweenNodes is about the port that only nodes reach.
func TestBundlesBetweenNodes(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	sum := sha256.Sum256([]byte(bundle))
	digest := hex.EncodeToString(sum[:])
	send := func(method, digest, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, n.private.URL+api.NodePath(digest), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return do(t, req)
	}
	if status, _ := send("GET", digest, ""); status != 404 {
		t.Errorf("a bundle that is not there: status %d", status)
	}
	if status, text := send("PUT", strings.Repeat("0", 64), bundle); status != 422 || !strings.Contains(text, digest) {
		t.Errorf("a bundle with another SHA-256 was answered %d %s", status, text)
	}
	if status, text := send("PUT", digest, bundle); status != 204 {
		t.Errorf("put: %d %s", status, text)
	}
	if status, text := send("GET", digest, ""); status != 200 || text != bundle {
		t.Errorf("get: %d %q", status, text)
	}
	// The public port knows nothing of it, token or not.
	n.call("GET", api.NodePath(digest), "").wantProblem(404, api.CodeNotFound)
}
