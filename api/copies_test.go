package api_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// seal has a node keep the sealed log of an attempt that is on from.
func (w *world) seal(id fsm.JobID, n int, from, to *node) fsm.Blob {
	w.t.Helper()
	sealer, err := joblog.NewSealer()
	if err != nil {
		w.t.Fatal(err)
	}
	var buf bytes.Buffer
	size, err := sealer.Seal(&buf, from.logs.path(id, n))
	if err != nil {
		w.t.Fatal(err)
	}
	digest, packed, err := to.blobs.Put(w.t.Context(), &buf, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	b := fsm.Blob{Digest: digest, Size: packed, Holders: []fsm.NodeID{to.id}}
	j, _ := w.nodes["a"].State().Job(id)
	w.must(fsm.Command{SealLog: &fsm.SealLog{Ref: j.Ref(j.Attempts[n-1]), Bytes: size, Log: b}})
	return b
}

// TestLogOfADeadNode is read from whoever has a copy, or has it sealed.
func TestLogOfADeadNode(t *testing.T) {
	for name, down := range map[string]func(*node){
		"gossip says so":         func(n *node) { n.down = true },
		"gossip does not see it": func(n *node) { n.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, "a", "b", "c", "d")
			id := job(w.build("test"), 1)
			w.assign(id, "b")
			w.start(id)
			w.nodes["b"].logs.write(t, id, 1, "one", "two", "three")
			w.nodes["d"].logs.write(t, id, 1, "one", "two") // its copy is behind
			down(w.nodes["b"])
			const path = "/api/v1/jobs/1.1/logs"
			for _, at := range []string{"a", "c", "d"} {
				if a := w.nodes[fsm.NodeID(at)].call("GET", path, "").want(200); a.body != "one\ntwo\n" {
					t.Errorf("at %s, from the copy: %q", at, a.body)
				}
			}
			w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 100})
			w.seal(id, 1, w.nodes["b"], w.nodes["c"])
			for _, at := range []string{"a", "c", "d"} {
				if a := w.nodes[fsm.NodeID(at)].call("GET", path, "").want(200); a.body != "one\ntwo\nthree\n" {
					t.Errorf("at %s, sealed: %q", at, a.body)
				}
			}
			w.nodes["c"].down = true // nobody has it sealed, and the copy is better than nothing
			if a := w.nodes["a"].call("GET", path, "").want(200); a.body != "one\ntwo\n" {
				t.Errorf("without its holder: %q", a.body)
			}
		})
	}
}

// TestGoneLogSaysHowLongLogsAreKept.
func TestGoneLogSaysHowLongLogsAreKept(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.LogsKept = ": nodes keep logs for 30 days" }, "a", "b")
	id := job(w.build("test"), 1)
	w.assign(id, "b")
	w.start(id)
	w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 10})
	if a := w.nodes["a"].call("GET", "/api/v1/jobs/1.1/logs", "").wantProblem(404, api.CodeNotFound); !strings.Contains(a.body, "30 days") {
		t.Errorf("it does not say why: %s", a.body)
	}
	if page := w.nodes["a"].call("GET", "/jobs/1.1/log", "").want(200); !strings.Contains(page.body, "nodes keep logs for 30 days") {
		t.Errorf("the page does not say why: %s", page.body)
	}
}

// TestFollowIsCarriedToACopy has the node die that a job runs on: whoever follows goes
// on with what the copy has, and with the next attempt, no line missing or twice.
func TestFollowIsCarriedToACopy(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "c")
	id := job(w.build("test"), 1)
	w.assign(id, "b")
	w.start(id)
	w.nodes["b"].logs.write(t, id, 1, "one")
	s := w.nodes["a"].stream("/api/v1/jobs/1.1/logs/stream")
	s.wantNext("status 1 running")
	s.wantNext("line 1 one")
	w.nodes["b"].cut()
	w.nodes["c"].logs.write(t, id, 1, "one", "two")
	if e := s.next().short(t); e != "line 1 two" {
		if e != "problem "+api.CodeNodeUnreachable { // it has looked before the copy was there
			t.Fatalf("event %q", e)
		}
		s.wantNext("line 1 two")
	}
	w.nodes["c"].logs.write(t, id, 1, "three")
	s.wantNext("line 1 three")
	w.must(fsm.Command{LoseAttempt: &fsm.LoseAttempt{Ref: w.ref(id), Message: "gone"}})
	s.wantNext("status 1 errored")
	s.wantNext("status 0 queued")
	w.assign(id, "a")
	w.start(id)
	w.nodes["a"].logs.write(t, id, 2, "again")
	w.finish(id, fsm.Outcome{Status: fsm.Passed, LogBytes: 9})
	got := s.tale()
	if got[len(got)-1] != "end 2 passed" || !slices.Contains(got, "line 2 again") {
		t.Errorf("it goes on with %q", got)
	}
}
