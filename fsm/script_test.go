package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

var rewrite = flag.Bool("rewrite", false, "write the scripts' output into testdata")

// TestScripts runs testdata/*.txt: blocks of commands, "----", and what they
// print. Every line of a block is a log entry of its own, unless it begins with
// "+", which joins it to the entry before it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(data))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s differs (-rewrite accepts it):\n%s", file, got)
			}
		})
	}
}

func runScript(t *testing.T, script string) string {
	w := &world{t: t, state: newest(), at: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(script), "\n\n") {
		input, _, _ := strings.Cut(block, "\n----")
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(input + "\n----\n")
		out.WriteString(w.block(input))
	}
	return out.String()
}

// world is a state and a log to drive it with.
type world struct {
	t     *testing.T
	state *State
	at    time.Time
	index uint64
	term  uint64
	last  []Command
}

func (w *world) block(input string) string {
	var out strings.Builder
	var entry []Command
	flush := func() {
		if len(entry) > 0 {
			out.WriteString(w.apply(entry))
			entry = nil
		}
	}
	for _, line := range strings.Split(input, "\n") {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		joined := strings.HasPrefix(line, "+")
		f := strings.Fields(strings.TrimPrefix(line, "+"))
		if text, ok := w.meta(f); ok {
			flush()
			out.WriteString(text())
			continue
		}
		if !joined {
			flush()
		}
		c := w.command(f)
		c.At = w.at
		entry = append(entry, c)
	}
	flush()
	return out.String()
}

// meta runs the lines that are no commands.
func (w *world) meta(f []string) (func() string, bool) {
	switch f[0] {
	case "pass": // pass 20s: the clock goes on
		d, err := time.ParseDuration(f[1])
		w.check(err)
		return func() string { w.at = w.at.Add(d); return "" }, true
	case "show":
		return func() string { return w.show() }, true
	case "outbox":
		return func() string {
			var b strings.Builder
			for e := range w.state.Outbox(0) {
				fmt.Fprintf(&b, "%d %s build %d %s %s", e.Seq, e.Kind, e.Build, e.Name, e.Status)
				if e.Tests != nil {
					fmt.Fprintf(&b, " tests %+v", *e.Tests)
				}
				b.WriteString("\n")
			}
			return b.String()
		}, true
	case "again": // the last entry once more: nothing may change
		return func() string { return w.apply(w.last) }, true
	case "snapshot":
		return w.snapshot, true
	}
	return w.metaStore(f)
}

func (w *world) apply(entry []Command) string {
	w.last = entry
	raw := make([][]byte, len(entry))
	for i, c := range entry {
		data, err := EncodeCommand(c)
		w.check(err)
		raw[i] = data
	}
	data, err := JoinEntry(raw)
	w.check(err)
	commands, err := DecodeEntry(data)
	w.check(err)
	w.index++
	before := w.state
	next, results := Apply(before, w.index, w.term, commands)
	w.state = next
	w.check(next.Verify())
	var out strings.Builder
	for _, r := range results {
		switch {
		case r.Err != nil:
			fmt.Fprintf(&out, "refused: %v\n", r.Err)
		case r.Known:
			fmt.Fprintf(&out, "known: build %d\n", r.Build)
		}
	}
	out.WriteString(diff(before, next))
	return out.String()
}

// diff tells what an entry changed, build by build and job by job.
func diff(a, b *State) string {
	var out strings.Builder
	for id := BuildID(1); id < b.nextBuild; id++ {
		nb, ok := b.Build(id)
		if !ok {
			if _, had := a.Build(id); had {
				fmt.Fprintf(&out, "build %d: forgotten\n", id)
			}
			continue
		}
		if ob, had := a.Build(id); !had || buildLine(ob) != buildLine(nb) {
			fmt.Fprintln(&out, buildLine(nb))
		}
		for j := range b.Jobs(id) {
			if oj, had := a.Job(j.ID); !had || jobLine(oj) != jobLine(j) {
				fmt.Fprintln(&out, "  "+jobLine(j))
			}
		}
	}
	for n := range b.Nodes() {
		if on, had := a.Node(n.ID); !had || nodeLine(on) != nodeLine(n) {
			fmt.Fprintln(&out, nodeLine(n))
		}
	}
	for n := range a.Nodes() {
		if _, has := b.Node(n.ID); !has {
			fmt.Fprintf(&out, "node %s: forgotten\n", n.ID)
		}
	}
	return out.String()
}

func buildLine(b *Build) string {
	return strings.TrimSpace(fmt.Sprintf("build %d: %s %s %s", b.ID, b.Status, b.Cause, quoted(b.Message)))
}

func jobLine(j *Job) string {
	line := fmt.Sprintf("job %s %s: %s %s %s", j.ID, j.Name, j.Status, j.Cause, quoted(j.Message))
	if a, ok := j.Current(); ok {
		line += fmt.Sprintf(" attempt %d on %s %s %s token %d/%d", a.N, a.Node, a.Status, a.Cause, a.Token.Epoch, a.Token.Index)
	}
	if a, ok := j.Current(); ok {
		if len(a.Waiting) > 0 {
			line += " waiting for " + strings.Join(a.Waiting, ", ")
		}
		for _, d := range a.Decisions {
			line += fmt.Sprintf(" %s approved: %v", d.Step, d.Approve)
		}
	}
	if j.CanceledBy != "" {
		line += " stop"
	}
	if !j.NotBefore.IsZero() {
		line += " not before " + j.NotBefore.Format("15:04:05")
	}
	return strings.Join(strings.Fields(line), " ")
}

func nodeLine(n *Node) string {
	line := fmt.Sprintf("node %s: start %d, reserved %dm of %dm, placed %d", n.ID, n.Incarnation, n.Reserved.CPU, n.Capacity.CPU, n.Placed)
	if n.Drained {
		line += ", drained by " + n.DrainedBy
		if !n.DrainUntil.IsZero() {
			line += " until " + n.DrainUntil.Format("15:04:05")
		}
	}
	return line
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return strconv.Quote(s)
}

func (w *world) show() string {
	return diff(newest(), w.state) + fmt.Sprintf("index %d, %d queued, %d placed, %d live\n",
		w.state.Index(), w.state.QueuedCount(), w.state.PlacedCount(), w.state.LiveBuilds())
}

// snapshot replaces the state by its own restored snapshot.
func (w *world) snapshot() string {
	var buf bytes.Buffer
	_, err := w.state.WriteTo(&buf)
	w.check(err)
	restored, err := Restore(bytes.NewReader(buf.Bytes()))
	w.check(err)
	a, err := w.state.Hash()
	w.check(err)
	b, err := restored.Hash()
	w.check(err)
	if a != b {
		return "restored to another hash\n"
	}
	w.state = restored
	return "restored to the same hash\n"
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// command reads a script's line; what it means stands beside each case.
func (w *world) command(f []string) Command {
	arg := func(i int) string {
		if i >= len(f) {
			w.t.Fatalf("%q: an argument is missing", strings.Join(f, " "))
		}
		return f[i]
	}
	opt := options(f)
	switch f[0] {
	case "push": // push REPO SHA [branch=B] [tag=T] [event=E] [url=U] [fork=1] [by=AUTHOR] [missed=1] [input=K:V] [retry=BUILD]
		c := Commit{Repo: arg(1), Author: opt["by"], CloneURL: opt.get("url", "git://"+arg(1)), SHA: arg(2), Ref: "refs/heads/" + opt.get("branch", "main"), Event: Event(opt.get("event", "push")), Fork: opt["fork"] != ""}
		if tag, ok := opt["tag"]; ok {
			c.Ref, c.Event = "refs/tags/"+tag, EventTag
		}
		return Command{AddBuild: &AddBuild{Key: c.Key() + opt["retry"], Commit: c, Inputs: inputs(opt["input"]), RetryOf: BuildID(opt.num(w, "retry", 0)), Missed: opt["missed"] != ""}}
	case "node": // node ID [cpu=MILLI] [start=N]
		return Command{UpsertNode: &UpsertNode{Node: Node{ID: NodeID(arg(1)), Incarnation: opt.num(w, "start", 1),
			Capacity: pipeline.Resources{CPU: int64(opt.num(w, "cpu", 4000)), Memory: 8 << 30}}}}
	case "assign": // assign JOB NODE [start=N] [n=N]
		id := w.job(arg(1))
		n := 1
		if j, ok := w.state.Job(id); ok {
			n = len(j.Attempts) + 1
		}
		return Command{AssignJob: &AssignJob{Job: id, Node: NodeID(arg(2)), Incarnation: opt.num(w, "start", 1), N: int(opt.num(w, "n", uint64(n)))}}
	case "start": // start JOB [waiting=STEP/…] [n=N] [token=I]
		start := &StartAttempt{Ref: w.ref(arg(1), opt)}
		if steps, ok := opt["waiting"]; ok {
			start.Waiting = strings.Split(steps, "/")
		}
		return Command{StartAttempt: start}
	case "finish": // finish JOB STATUS [cause=C] [exit=N] [tests=P/F/S] [jobs=a,b:a] [cpu=MILLI] [loss=fail] [cron=EXPR[@BRANCH],…] [text=MESSAGE/AUTHOR] [n=N] [token=I]
		o := Outcome{Status: Status(arg(2)), Cause: Cause(opt["cause"]), Message: opt["msg"], ExitCode: int(opt.num(w, "exit", 0)), Tests: tests(w, opt["tests"])}
		if jobs, ok := opt["jobs"]; ok {
			o.Plan = plan(jobs, int64(opt.num(w, "cpu", 1000)), pipeline.NodeLoss(opt["loss"]))
			o.Plan.Schedules = crons(opt["cron"])
			if message, author, ok := strings.Cut(opt["text"], "/"); ok {
				o.Text = &CommitText{Message: message, Author: author}
			}
		}
		return Command{FinishAttempt: &FinishAttempt{Ref: w.ref(arg(1), opt), Outcome: o}}
	case "lose": // lose JOB [never=1] [n=N] [token=I]
		return Command{LoseAttempt: &LoseAttempt{Ref: w.ref(arg(1), opt), Message: "silent", NeverStarted: opt["never"] != ""}}
	case "cancel": // cancel BUILD
		id, err := strconv.ParseUint(arg(1), 10, 64)
		w.check(err)
		return Command{CancelBuild: &CancelBuild{Build: BuildID(id), By: "somebody"}}
	case "drain", "resume": // drain NODE [for=D], resume NODE
		return w.drain(NodeID(arg(1)), f[0] == "drain", opt["for"])
	case "remove":
		return Command{RemoveNode: &RemoveNode{Node: NodeID(arg(1))}}
	case "sinks":
		return Command{SetSinks: &SetSinks{Events: arg(1) == "on"}}
	case "ack":
		return Command{AckEvents: &AckEvents{Seq: opt.num(w, "seq", 0)}}
	case "epoch":
		return Command{RaiseEpoch: &RaiseEpoch{Epoch: opt.num(w, "to", 0)}}
	case "raise": // raise to=STATEVERSION
		return Command{RaiseVersion: &RaiseVersion{Version: uint(opt.num(w, "to", StateVersion))}}
	case "empty":
		return Command{}
	}
	return w.commandMore(f, arg, opt)
}

type lineOptions map[string]string

func options(f []string) lineOptions {
	o := make(lineOptions)
	for _, word := range f {
		if k, v, ok := strings.Cut(word, "="); ok {
			o[k] = v
		}
	}
	return o
}

func (o lineOptions) get(key, or string) string {
	if v, ok := o[key]; ok {
		return v
	}
	return or
}

func (o lineOptions) num(w *world, key string, or uint64) uint64 {
	v, ok := o[key]
	if !ok {
		return or
	}
	n, err := strconv.ParseUint(v, 10, 64)
	w.check(err)
	return n
}

func (w *world) job(text string) JobID {
	id, err := ParseJobID(text)
	w.check(err)
	return id
}

// ref is the current attempt's, unless n or token say otherwise.
func (w *world) ref(job string, opt lineOptions) AttemptRef {
	id := w.job(job)
	ref := AttemptRef{Job: id, N: 1}
	if j, ok := w.state.Job(id); ok {
		if a, ok := j.Current(); ok {
			ref = j.Ref(a)
		}
	}
	ref.N = int(opt.num(w, "n", uint64(ref.N)))
	ref.Token.Index = opt.num(w, "token", ref.Token.Index)
	return ref
}

// plan reads "a,b:a;manual": two jobs, of which b needs a; what stands after a
// semicolon is read by trait.
func plan(text string, cpu int64, loss pipeline.NodeLoss) *pipeline.Pipeline {
	p := &pipeline.Pipeline{Name: "p"}
	for _, word := range strings.Split(text, ",") {
		word, traits, _ := strings.Cut(word, ";")
		name, needs, _ := strings.Cut(word, ":")
		j := pipeline.Job{Name: name, Resources: pipeline.Resources{CPU: cpu, Memory: 1 << 30}, OnNodeLoss: loss}
		if needs != "" {
			j.Needs = strings.Split(needs, "+")
		}
		for _, t := range strings.Split(traits, ";") {
			trait(&j, t)
		}
		p.Jobs = append(p.Jobs, j)
	}
	return p
}
