package api_test

import (
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/inbox"
)

// kept puts a delivery into a node's inbox.
func (n *node) kept(repo string, o inbox.Outcome) string {
	n.w.t.Helper()
	d := inbox.Delivery{Path: "/hooks/github", Event: "push", Repo: repo}
	if err := n.inbox.Keep(&d, []byte(`{"of": "`+repo+`"}`)); err != nil {
		n.w.t.Fatal(err)
	}
	if err := n.inbox.Settle(d.ID, o); err != nil {
		n.w.t.Fatal(err)
	}
	return d.ID
}

func TestDeliveriesOfAllNodes(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "c")
	a, b := w.nodes["a"], w.nodes["b"]
	w.elect("") // nobody has to lead
	first := a.kept("acme/api", inbox.Outcome{Status: inbox.Accepted, Build: 1})
	second := b.kept("acme/web", inbox.Outcome{Status: inbox.Ignored, Reason: "ping"})
	stranger := inbox.Delivery{Path: "/hooks/github", Repo: "acme/api"}
	if err := b.inbox.Refuse(&stranger, "not signed"); err != nil {
		t.Fatal(err)
	}
	list := func(n *node, query string) (ids []string, l api.DeliveryList) {
		t.Helper()
		n.call("GET", "/api/v1/hooks"+query, "").want(200).into(&l)
		for _, d := range l.Deliveries {
			ids = append(ids, d.ID)
		}
		return ids, l
	}
	for _, n := range w.nodes {
		ids, l := list(n, "")
		if len(ids) != 3 || len(l.Missing) != 0 {
			t.Fatalf("at %s: %+v", n.id, l)
		}
		for _, d := range l.Deliveries {
			if want := map[string]string{first: "a", second: "b", stranger.ID: "b"}[d.ID]; string(d.Node) != want || d.NodeName != "host-"+want {
				t.Errorf("at %s: %s is said to be at %s (%s)", n.id, d.ID, d.Node, d.NodeName)
			}
		}
		if ids, _ := list(n, "?repo=acme/api&outcome=accepted"); len(ids) != 1 || ids[0] != first {
			t.Errorf("at %s: accepted ones of acme/api: %v", n.id, ids)
		}
		if ids, _ := list(n, "?limit=1"); len(ids) != 1 {
			t.Errorf("at %s: one of them: %v", n.id, ids)
		}
		var d api.DeliveryBody
		n.call("GET", "/api/v1/hooks/"+second, "").want(200).into(&d)
		if d.Node != "b" || d.Body != `{"of": "acme/web"}` || d.Status != inbox.Ignored {
			t.Errorf("at %s: %+v", n.id, d)
		}
		n.call("GET", "/api/v1/hooks/0123456789ABCDEF", "").wantProblem(404, api.CodeNotFound)
		n.call("GET", "/api/v1/hooks/0123", "").wantProblem(422, api.CodeInvalid)
	}
	a.call("GET", "/api/v1/hooks?outcome=lost", "").wantProblem(422, api.CodeInvalid)
	for _, path := range []string{"/api/v1/hooks", "/api/v1/hooks/" + first} {
		a.bare("GET", path, "").wantProblem(401, api.CodeUnauthorized)
	}

	b.deaf = true
	ids, l := list(a, "")
	if len(ids) != 1 || len(l.Missing) != 1 || l.Missing[0].Node != "b" || !strings.Contains(l.Missing[0].Reason, "refused") {
		t.Errorf("without b: %+v", l)
	}
	p := a.call("GET", "/api/v1/hooks/"+second, "").wantProblem(503, api.CodeNodeUnreachable)
	if !strings.Contains(p.body, "host-b") {
		t.Errorf("it does not say which node: %s", p.body)
	}
}

func TestReplayAtAnyNode(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	id := b.kept("acme/api", inbox.Outcome{Status: inbox.Accepted, Build: 7})
	for _, n := range w.nodes {
		var d api.Delivery
		n.call("POST", "/api/v1/hooks/"+id+"/replay", "").want(200).into(&d)
		if d.Status != inbox.Known || d.Build != 7 || d.Node != "b" {
			t.Errorf("at %s: %+v", n.id, d)
		}
		for range 2 { // once, and sent again without an answer
			n.call("POST", "/api/v1/hooks/"+id+"/replay?force=true", "", "Idempotency-Key", string(n.id)).want(200).into(&d)
			if d.Status != inbox.Accepted || d.Build != 8 {
				t.Errorf("at %s, anew: %+v", n.id, d)
			}
		}
	}
	if len(b.again) != 4 || b.again[0] != b.again[1] || b.again[1] == b.again[2] || b.again[2] != b.again[3] {
		t.Errorf("replayed with the words %q", b.again)
	}
	stranger := inbox.Delivery{Path: "/hooks/github"}
	if err := b.inbox.Refuse(&stranger, "not signed"); err != nil {
		t.Fatal(err)
	}
	for _, n := range w.nodes {
		n.call("POST", "/api/v1/hooks/"+stranger.ID+"/replay?force=true", "").wantProblem(409, api.CodeConflict)
		n.bare("POST", "/api/v1/hooks/"+id+"/replay", "").wantProblem(401, api.CodeUnauthorized)
	}
	b.deaf = true
	a.call("POST", "/api/v1/hooks/"+id+"/replay", "").wantProblem(503, api.CodeNodeUnreachable)
}
