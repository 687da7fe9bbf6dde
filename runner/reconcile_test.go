package runner

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts give as what they want")

// A script is cases: what the node has, what is wanted, a line of dashes, and
// the actions. An attempt is JOB#N@TOKEN.
func TestReconcileScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/reconcile/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("scripts: %v, %v", paths, err)
	}
	for _, path := range paths {
		script, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := runScript(t, string(script))
		if *rewrite {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if !bytes.Equal([]byte(got), script) {
			t.Errorf("%s: got\n%s", path, got)
		}
	}
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	have, want := map[fsm.AttemptRef]state{}, link.Wanted{}
	inWant, done := false, false
	for line := range strings.Lines(script) {
		text := strings.TrimSpace(line)
		fields := strings.Fields(text)
		switch {
		case text == "":
			if done {
				out.WriteString("\n")
			}
			have, want, inWant, done = map[fsm.AttemptRef]state{}, link.Wanted{}, false, false
			continue
		case done:
			continue // what it gave before
		case text == "----":
			done = true
			out.WriteString(line)
			for _, a := range reconcile(have, want) {
				fmt.Fprintf(&out, "%s %s\n", a.verb, a.ref)
			}
			continue
		case fields[0] == "want":
			inWant = true
			scan(t, fields[1], "%d", &want.Index)
		case strings.HasPrefix(text, "#") || fields[0] == "have":
		case inWant:
			a := link.Assignment{Ref: parseRef(t, fields[0])}
			for _, f := range fields[1:] {
				a.Cancel = a.Cancel || f == "cancel"
				if f == "work" {
					a.Work = &link.Work{}
				}
			}
			want.Attempts = append(want.Attempts, a)
		default:
			have[parseRef(t, fields[0])] = parseState(t, fields[1])
		}
		out.WriteString(line)
	}
	return out.String()
}

func scan(t *testing.T, text, format string, to ...any) {
	t.Helper()
	if _, err := fmt.Sscanf(text, format, to...); err != nil {
		t.Fatalf("%q is no %s: %v", text, format, err)
	}
}

func parseRef(t *testing.T, text string) (r fsm.AttemptRef) {
	t.Helper()
	if strings.Contains(text, "/") {
		scan(t, text, "%d.%d#%d@%d/%d", &r.Job.Build, &r.Job.Seq, &r.N, &r.Token.Epoch, &r.Token.Index)
	} else {
		scan(t, text, "%d.%d#%d@%d", &r.Job.Build, &r.Job.Seq, &r.N, &r.Token.Index)
	}
	return r
}

func parseState(t *testing.T, text string) state {
	t.Helper()
	for s := running; s <= dropped; s++ {
		if s.String() == text {
			return s
		}
	}
	t.Fatalf("%q is no state", text)
	return 0
}

// world is one node and what the cluster knows of three jobs, for a random
// walk. The node's part is reconcile and settle; the rest is a model.
type world struct {
	have    map[fsm.AttemptRef]state
	started map[fsm.AttemptRef]bool
	aborted map[fsm.AttemptRef]bool
	fenced  map[fsm.AttemptRef]bool
	results map[fsm.AttemptRef]fsm.Outcome

	index   uint64
	current map[fsm.JobID]link.Assignment // placed here
	n       map[fsm.JobID]int
	history []link.Wanted // what leaders have believed, deposed ones too
}

func TestReconcileNeverRunsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{have: map[fsm.AttemptRef]state{}, started: map[fsm.AttemptRef]bool{}, aborted: map[fsm.AttemptRef]bool{},
			fenced: map[fsm.AttemptRef]bool{}, results: map[fsm.AttemptRef]fsm.Outcome{},
			current: map[fsm.JobID]link.Assignment{}, n: map[fsm.JobID]int{}}
		w.commit()
		job := rapid.Custom(func(t *rapid.T) fsm.JobID {
			return fsm.JobID{Build: 1, Seq: rapid.Uint32Range(1, 3).Draw(t, "seq")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"assign":    func(t *rapid.T) { w.assign(job.Draw(t, "job")) },
			"elsewhere": func(t *rapid.T) { delete(w.current, job.Draw(t, "job")); w.commit() },
			"cancel":    func(t *rapid.T) { w.cancel(job.Draw(t, "job")) },
			"newest":    func(t *rapid.T) { w.deliver(t, w.history[len(w.history)-1]) },
			"deposed":   func(t *rapid.T) { w.deliver(t, rapid.SampledFrom(w.history).Draw(t, "wish")) },
			"end":       func(t *rapid.T) { w.end(t, w.pick(t), fsm.Outcome{Status: fsm.Passed}) },
			"killed":    func(t *rapid.T) { w.end(t, w.pick(t), fsm.Outcome{Status: fsm.Failed}) },
			"ack":       func(t *rapid.T) { w.ack(w.pick(t)) },
			"refused":   func(t *rapid.T) { w.refused(w.pick(t)) },
			"fence":     func(*rapid.T) { w.fence() },
			"crash":     func(t *rapid.T) { w.crash(t) },
			"":          func(t *rapid.T) { w.check(t) },
		})
		w.settles(t)
	})
}

// commit is one more entry in the log.
func (w *world) commit() {
	w.index++
	want := link.Wanted{Index: w.index}
	for seq := uint32(1); seq <= 3; seq++ {
		if a, ok := w.current[fsm.JobID{Build: 1, Seq: seq}]; ok {
			want.Attempts = append(want.Attempts, a)
		}
	}
	w.history = append(w.history, want)
}

func (w *world) assign(job fsm.JobID) {
	w.n[job]++
	w.current[job] = link.Assignment{Ref: fsm.AttemptRef{Job: job, N: w.n[job], Token: fsm.Token{Index: w.index + 1}}, Work: &link.Work{}}
	w.commit()
}

func (w *world) cancel(job fsm.JobID) {
	if a, ok := w.current[job]; ok {
		a.Cancel = true
		w.current[job] = a
		w.commit()
	}
}

func (w *world) deliver(t *rapid.T, want link.Wanted) {
	for _, a := range reconcile(maps.Clone(w.have), want) {
		switch a.verb {
		case start:
			if w.started[a.ref] {
				t.Fatalf("%s is started again", a.ref)
			}
			for ref := range w.have {
				if ref.Job == a.ref.Job && ref.N > a.ref.N {
					t.Fatalf("%s is started after %s", a.ref, ref)
				}
			}
			w.started[a.ref], w.have[a.ref] = true, running
		case cancel:
			w.have[a.ref] = canceling
		case abort:
			if a.ref.Token.Index > want.Index {
				t.Fatalf("%s is aborted by a leader that can't know of it", a.ref)
			}
			w.have[a.ref], w.aborted[a.ref] = aborting, true
		case refuse, disown:
			w.have[a.ref] = ended
			w.results[a.ref] = fsm.Outcome{Status: fsm.Errored}
		case resync:
			t.Fatalf("%s is described, and asked for", a.ref)
		}
	}
}

func (w *world) pick(t *rapid.T) fsm.AttemptRef {
	if len(w.have) == 0 {
		t.Skip("nothing here")
	}
	return rapid.SampledFrom(sorted(w.have)).Draw(t, "attempt")
}

// end is what the runner does when what ran has ended.
func (w *world) end(t *rapid.T, ref fsm.AttemptRef, o fsm.Outcome) {
	s := w.have[ref]
	if !s.alive() {
		return
	}
	result, report := settle(s, o)
	if !report {
		w.have[ref] = dropped
		return
	}
	if w.aborted[ref] {
		t.Fatalf("%s was superseded and reports %v", ref, result.Status)
	}
	if w.fenced[ref] && result.Cause != fsm.CauseNodeLost {
		t.Fatalf("%s was fenced and reports %v", ref, result.Status)
	}
	w.have[ref], w.results[ref] = ended, result
}

func (w *world) ack(ref fsm.AttemptRef) {
	if w.have[ref] != ended {
		return
	}
	w.have[ref] = closed
	if w.current[ref.Job].Ref == ref {
		delete(w.current, ref.Job)
		w.commit()
	}
}

// refused is a leader that takes no result, whatever it goes on wanting.
func (w *world) refused(ref fsm.AttemptRef) {
	if w.have[ref] == ended {
		w.have[ref] = dropped
	}
}

func (w *world) fence() {
	for ref, s := range w.have {
		if s.alive() && s < fencing {
			w.have[ref], w.fenced[ref] = fencing, true
		}
	}
}

// crash forgets what was being stopped and why; what ran is adopted or gone.
func (w *world) crash(t *rapid.T) {
	for _, ref := range sorted(w.have) {
		if !w.have[ref].alive() {
			continue
		}
		w.have[ref] = running
		delete(w.aborted, ref)
		delete(w.fenced, ref)
		if rapid.Bool().Draw(t, "gone") {
			w.end(t, ref, fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost})
		}
	}
}

func (w *world) check(t *rapid.T) {
	alive := map[fsm.JobID]fsm.AttemptRef{}
	for ref, s := range w.have {
		if other, twice := alive[ref.Job]; s.alive() && twice {
			t.Fatalf("%s and %s run at a time", ref, other)
		}
		if s.alive() {
			alive[ref.Job] = ref
		}
	}
}

// settles shows that nothing is forgotten: when the newest wish is told and
// what runs comes to its end, every wish is fulfilled.
func (w *world) settles(t *rapid.T) {
	for range 5 {
		w.deliver(t, w.history[len(w.history)-1])
		for _, ref := range sorted(w.have) {
			w.end(t, ref, fsm.Outcome{Status: fsm.Passed})
			w.ack(ref)
		}
		w.check(t)
	}
	if len(w.current) > 0 {
		t.Fatalf("still wanted: %v, here: %v", w.current, w.have)
	}
}
