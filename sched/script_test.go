package sched

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

var rewrite = flag.Bool("rewrite", false, "write the scripts' output into testdata")

// TestScripts runs testdata/*.txt: blocks of lines, "----", and what they print.
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
			y := newYard(t)
			var got strings.Builder
			for i, block := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
				input, _, _ := strings.Cut(block, "\n----")
				if i > 0 {
					got.WriteString("\n")
				}
				got.WriteString(input + "\n----\n")
				for _, line := range strings.Split(input, "\n") {
					if line != "" && !strings.HasPrefix(line, "#") {
						got.WriteString(y.line(strings.Fields(line)))
					}
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != string(data) {
				t.Errorf("%s differs (-rewrite accepts it):\n%s", file, got.String())
			}
		})
	}
}

// yard is a state, who is there, and a clock.
type yard struct {
	t         *testing.T
	state     *fsm.State
	leases    *Leases
	calendar  *Calendar
	stopwatch *Stopwatch
	now       time.Time
	index     uint64
}

func newYard(t *testing.T) *yard {
	y := &yard{t: t, state: fsm.New(), calendar: NewCalendar(), stopwatch: NewStopwatch(), now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	y.leases = NewLeases(y.state, 6*time.Second, 15*time.Second, y.now)
	return y
}

// apply takes one entry; the lines of scripts are ones that are not refused.
func (y *yard) apply(commands ...fsm.Command) {
	y.t.Helper()
	y.index++
	for i := range commands {
		commands[i].At = y.now
	}
	var results []fsm.Result
	y.state, results = fsm.Apply(y.state, y.index, 1, commands)
	for i, r := range results {
		if r.Err != nil {
			y.t.Fatalf("%+v refused: %v", commands[i], r.Err)
		}
	}
	if err := y.state.Verify(); err != nil {
		y.t.Fatal(err)
	}
}

// line runs one line; what it means stands beside each case.
func (y *yard) line(f []string) string {
	opt := make(map[string]string)
	for _, word := range f {
		if k, v, ok := strings.Cut(word, "="); ok {
			opt[k] = v
		}
	}
	switch f[0] {
	case "node": // node ID cpu=MILLI mem=MIB [disk=MIB] [labels=k:v,…] [start=N] [have=REPO] [images=I,…] [full=1]: it says hello
		n := fsm.Node{ID: fsm.NodeID(f[1]), Name: f[1], Incarnation: uint64(num(opt, "start", 1)), Labels: labels(opt["labels"]), Capacity: resources(opt)}
		y.apply(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: n}})
		y.leases.Hello(&link.Hello{Node: n, Have: strings.Split(opt["have"], ","), Images: strings.Split(opt["images"], ","), DiskFull: opt["full"] != ""}, y.now)
	case "beat", "gone": // beat ID [images=I,…] [full=1]
		if f[0] == "beat" {
			b := &link.Beat{Load: link.Load{DiskFull: opt["full"] != ""}}
			if opt["images"] != "" {
				b.Images = strings.Split(opt["images"], ",")
			}
			y.leases.Beat(fsm.NodeID(f[1]), b, y.now)
		} else {
			y.leases.Gone(fsm.NodeID(f[1]))
		}
	case "drain": // drain NODE [for=D]
		y.drain(fsm.NodeID(f[1]), opt["for"])
	case "push": // push REPO [event=E]: a commit that waits to be planned
		y.push(f[1], fsm.Event(opt["event"]))
	case "jobs": // jobs REPO NAME,… [cpu=MILLI] [mem=MIB] [disk=MIB] [labels=k:v] [priority=N] [event=E] [image=I] [manual=1] [group=NAME/LIMIT[/build]] [timeout=D] [cron=MINUTES]: a build whose plan is done
		y.jobs(f[1], strings.Split(f[2], ","), opt)
	case "finish", "lose", "start", "fail":
		y.end(f[0], f[1])
	case "pass":
		d, err := time.ParseDuration(f[1])
		y.check(err)
		y.now = y.now.Add(d)
	case "decide": // one round of all that a leader decides, but what was lost and who has left
		return y.decide()
	case "plan": // one round: its placements are applied, none may be refused
		return y.plan()
	case "lost":
		var out strings.Builder
		for _, l := range y.leases.Lost(y.state, y.now) {
			fmt.Fprintf(&out, "%s lost: %s\n", l.Ref, l.Message)
			y.apply(fsm.Command{LoseAttempt: &l})
		}
		return out.String()
	case "next":
		return fmt.Sprintf("next in %s\n", y.leases.Next(y.now).Sub(y.now))
	case "leader": // another node leads: its leases start afresh
		y.leases = NewLeases(y.state, 6*time.Second, 15*time.Second, y.now)
		y.calendar, y.stopwatch = NewCalendar(), NewStopwatch()
	case "why":
		return y.why(f[1])
	default:
		y.t.Fatalf("unknown line %q", f)
	}
	return ""
}

// drain keeps new jobs off a node; within is empty where it has no deadline.
func (y *yard) drain(id fsm.NodeID, within string) {
	c := fsm.DrainNode{Node: id, Drain: true, By: "somebody"}
	if within != "" {
		d, err := time.ParseDuration(within)
		y.check(err)
		c.Until = y.now.Add(d)
	}
	y.apply(fsm.Command{DrainNode: &c})
}

func (y *yard) plan() string {
	var out strings.Builder
	place, due := Plan(y.state, y.leases.Fleet(y.now), y.now)
	commands := make([]fsm.Command, len(place))
	for i := range place {
		j, _ := y.state.Job(place[i].Job)
		fmt.Fprintf(&out, "%s %s %s on %s\n", place[i].Job, j.Repo, j.Name, place[i].Node)
		commands[i].AssignJob = &place[i]
	}
	y.apply(commands...)
	fmt.Fprintf(&out, "%d queued", y.state.QueuedCount())
	if !due.IsZero() {
		fmt.Fprintf(&out, ", one comes due in %s", due.Sub(y.now))
	}
	return out.String() + "\n"
}

func (y *yard) decide() string {
	var out strings.Builder
	overdue, over := y.stopwatch.Overdue(y.state, y.now)
	commands, due := Decide(y.state, Sight{Fleet: y.leases.Fleet(y.now), Overdue: overdue}, y.calendar, y.now)
	if len(commands) == 0 {
		due = earliest(due, over)
	}
	for _, c := range commands {
		switch {
		case c.AssignJob != nil:
			fmt.Fprintf(&out, "%s on %s\n", c.AssignJob.Job, c.AssignJob.Node)
		case c.MoveAttempt != nil:
			fmt.Fprintf(&out, "%s moves\n", c.MoveAttempt.Ref)
		case c.ExpireAttempt != nil:
			fmt.Fprintf(&out, "%s: %s\n", c.ExpireAttempt.Ref, c.ExpireAttempt.Message)
		case c.FireSchedule != nil:
			fmt.Fprintf(&out, "%s %s of %s\n", c.FireSchedule.Repo, c.FireSchedule.Spec.Cron, c.FireSchedule.Due.Format(time.DateTime))
		}
	}
	y.apply(commands...)
	if !due.IsZero() {
		fmt.Fprintf(&out, "next in %s\n", due.Sub(y.now))
	}
	return out.String()
}

func (y *yard) why(job string) string {
	id, err := fsm.ParseJobID(job)
	y.check(err)
	j, ok := y.state.Job(id)
	if !ok {
		y.t.Fatalf("no job %s", job)
	}
	var out strings.Builder
	for _, r := range Why(y.state, y.leases.Fleet(y.now), y.now, j) {
		never := ""
		if r.Never {
			never = " (never)"
		}
		fmt.Fprintf(&out, "%s %s: %s%s\n", r.Node, r.Code, r.Message, never)
	}
	return out.String()
}

func (y *yard) push(repo string, event fsm.Event) fsm.BuildID {
	if event == "" {
		event = fsm.EventPush
	}
	c := fsm.Commit{Repo: repo, SHA: strconv.FormatUint(y.index, 16), Event: event, Ref: "refs/heads/main"}
	y.apply(fsm.Command{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}})
	b, _ := y.state.BuildByKey(c.Key())
	return b.ID
}

func (y *yard) jobs(repo string, names []string, opt map[string]string) {
	if _, ok := y.state.Node("planner"); !ok { // never in the fleet: it gets no job from Plan
		y.apply(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: "planner", Name: "planner"}}})
	}
	id := fsm.JobID{Build: y.push(repo, fsm.Event(opt["event"]))}
	y.apply(fsm.Command{AssignJob: &fsm.AssignJob{Job: id, N: 1, Node: "planner"}})
	p := &pipeline.Pipeline{}
	for _, name := range names {
		timeout, _ := time.ParseDuration(opt["timeout"])
		p.Jobs = append(p.Jobs, pipeline.Job{Name: name, Resources: resources(opt), Labels: labels(opt["labels"]), Priority: int(num(opt, "priority", 0)),
			Image: opt["image"], When: pipeline.When{Manual: opt["manual"] != ""}, Concurrency: concurrency(opt["group"]), Timeout: timeout})
	}
	if opt["cron"] != "" {
		p.Schedules = []pipeline.Schedule{{Cron: opt["cron"] + " * * * *", Timezone: "UTC", Branch: "main"}}
	}
	ref := fsm.AttemptRef{Job: id, N: 1, Token: fsm.Token{Index: y.index}}
	y.apply(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref, Outcome: fsm.Outcome{Status: fsm.Passed, Plan: p}}})
}

func (y *yard) end(how, job string) {
	id, err := fsm.ParseJobID(job)
	y.check(err)
	j, _ := y.state.Job(id)
	a, _ := j.Current()
	switch how {
	case "lose":
		y.apply(fsm.Command{LoseAttempt: &fsm.LoseAttempt{Ref: j.Ref(a)}})
		return
	case "start":
		y.apply(fsm.Command{StartAttempt: &fsm.StartAttempt{Ref: j.Ref(a)}})
		return
	case "fail":
		o := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseImagePull}
		y.apply(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: j.Ref(a), Outcome: o}})
		return
	}
	y.apply(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: j.Ref(a), Outcome: fsm.Outcome{Status: fsm.Passed}}})
}

func (y *yard) check(err error) {
	y.t.Helper()
	if err != nil {
		y.t.Fatal(err)
	}
}

func resources(opt map[string]string) pipeline.Resources {
	return pipeline.Resources{CPU: num(opt, "cpu", 1000), Memory: num(opt, "mem", 1024) << 20, Disk: num(opt, "disk", 0) << 20}
}

func concurrency(text string) *pipeline.Concurrency {
	parts := strings.Split(text, "/")
	if len(parts) < 2 {
		return nil
	}
	limit, _ := strconv.Atoi(parts[1])
	return &pipeline.Concurrency{Group: parts[0], Limit: limit, PerBuild: len(parts) > 2}
}

func num(opt map[string]string, key string, or int64) int64 {
	n, err := strconv.ParseInt(opt[key], 10, 64)
	if err != nil {
		return or
	}
	return n
}

func labels(text string) map[string]string {
	m := make(map[string]string)
	for _, word := range strings.Split(text, ",") {
		if k, v, ok := strings.Cut(word, ":"); ok {
			m[k] = v
		}
	}
	return m
}
