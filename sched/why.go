package sched

import (
	"fmt"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Why says, for the job itself and per node, what keeps a job from starting. It
// goes by the same rules as Plan.
func Why(s *fsm.State, fleet Fleet, now time.Time, j *fsm.Job) []fsm.Reason {
	if r, done := ownReason(s, now, j); done {
		return []fsm.Reason{r}
	}
	if r, waits := groupReason(s, now, j); waits {
		return []fsm.Reason{r}
	}
	held := kept(s, fleet, now)
	var out []fsm.Reason
	for n := range s.Nodes() {
		r := nodeReason(s, fleet[n.ID], n, j)
		if k := held[n.ID]; k != nil && k.ID != j.ID && r.Code == fsm.ReasonFits {
			r.Code, r.Message = fsm.ReasonReserved, fmt.Sprintf("room is kept for job %s, which has waited longer", k.ID)
		}
		r.Node, r.Name = n.ID, n.Name
		out = append(out, r)
	}
	if len(out) == 0 {
		return []fsm.Reason{{Code: fsm.ReasonNoNodes, Message: "no node has joined that runs jobs: start one with `narwhal node`"}}
	}
	return append(out, impossible(out)...)
}

// ownReason answers for jobs that do not wait for a node.
func ownReason(s *fsm.State, now time.Time, j *fsm.Job) (fsm.Reason, bool) {
	switch {
	case j.Status.Terminal():
		return fsm.Reason{Code: fsm.ReasonEnded, Message: fmt.Sprintf("it has ended: %s", j.Status)}, true
	case j.Status.Placed():
		a, _ := j.Current()
		r := fsm.Reason{Node: a.Node, Code: fsm.ReasonPlaced, Message: placedWhy(j.ID, a)}
		if n, ok := s.Node(a.Node); ok {
			r.Name = n.Name
		}
		return r, true
	case j.Status == fsm.Blocked:
		return fsm.Reason{Code: fsm.ReasonBlocked, Message: "it needs " + strings.Join(openNeeds(s, j), ", ")}, true
	case j.Status == fsm.Held:
		return fsm.Reason{Code: fsm.ReasonHeld, Message: fmt.Sprintf("it waits for a person: narwhal approve %s", j.ID)}, true
	case j.NotBefore.After(now):
		return fsm.Reason{Code: fsm.ReasonBackoff, Message: fmt.Sprintf("it is tried again in %s",
			j.NotBefore.Sub(now).Round(time.Second))}, true
	}
	return fsm.Reason{}, false
}

// placedWhy says how an attempt stands, and how those of its steps go on that wait.
func placedWhy(job fsm.JobID, a fsm.Attempt) string {
	text := fmt.Sprintf("attempt %d is %s", a.N, a.Status)
	for _, step := range a.Asks() {
		text += fmt.Sprintf("; step %s waits for a person: %s", step, fsm.Approval(job.String(), step))
	}
	return text
}

func openNeeds(s *fsm.State, j *fsm.Job) []string {
	var out []string
	for _, seq := range j.Needs {
		need, ok := s.Job(fsm.JobID{Build: j.ID.Build, Seq: seq})
		if ok && !need.Status.Terminal() {
			out = append(out, fmt.Sprintf("%s (%s)", need.Name, need.Status))
		}
	}
	return out
}

func nodeReason(s *fsm.State, p Presence, n *fsm.Node, j *fsm.Job) fsm.Reason {
	if j.Kind == fsm.KindRun {
		if r, ok := neverReason(n, j); ok {
			return r
		}
	}
	switch free, want := n.Free(), j.Request(); {
	case n.Drained:
		return fsm.Reason{Code: fsm.ReasonDrained, Message: "drained by " + n.DrainedBy}
	case !p.Connected || p.Incarnation != n.Incarnation:
		return fsm.Reason{Code: fsm.ReasonSilent, Message: "no heartbeat"}
	case p.Full:
		return fsm.Reason{Code: fsm.ReasonDisk, Message: "its disk is full"}
	case j.Kind == fsm.KindPlan && plansOn(s, n.ID) >= plansPerNode:
		return fsm.Reason{Code: fsm.ReasonBusy, Message: fmt.Sprintf("it makes %d plans already", plansPerNode)}
	case want.CPU > free.CPU:
		return fsm.Reason{Code: fsm.ReasonCPU, Message: lacks("CPU", want.CPU, free.CPU, cpu)}
	case want.Memory > free.Memory:
		return fsm.Reason{Code: fsm.ReasonMemory, Message: lacks("memory", want.Memory, free.Memory, size)}
	case want.Disk > free.Disk:
		return fsm.Reason{Code: fsm.ReasonDisk, Message: lacks("disk", want.Disk, free.Disk, size)}
	}
	return fsm.Reason{Code: fsm.ReasonFits, Message: "it fits: it is placed as soon as its turn comes"}
}

// neverReason finds what no waiting mends: a label the node lacks, more than it
// has when empty.
func neverReason(n *fsm.Node, j *fsm.Job) (fsm.Reason, bool) {
	for _, k := range sortedKeys(j.Spec.Labels) {
		if want := j.Spec.Labels[k]; n.Labels[k] != want {
			has := "it has no such label"
			if v, ok := n.Labels[k]; ok {
				has = "it has " + v
			}
			return fsm.Reason{Code: fsm.ReasonLabels, Never: true, Message: fmt.Sprintf("wants label %s=%s, %s", k, want, has)}, true
		}
	}
	switch want, all := j.Request(), n.Capacity; {
	case want.CPU > all.CPU:
		return fsm.Reason{Code: fsm.ReasonCPU, Never: true, Message: tooBig("CPU", want.CPU, all.CPU, cpu)}, true
	case want.Memory > all.Memory:
		return fsm.Reason{Code: fsm.ReasonMemory, Never: true, Message: tooBig("memory", want.Memory, all.Memory, size)}, true
	case want.Disk > all.Disk:
		return fsm.Reason{Code: fsm.ReasonDisk, Never: true, Message: tooBig("disk", want.Disk, all.Disk, size)}, true
	}
	return fsm.Reason{}, false
}

// impossible sums up when no node can ever take the job.
func impossible(nodes []fsm.Reason) []fsm.Reason {
	for _, r := range nodes {
		if !r.Never {
			return nil
		}
	}
	return []fsm.Reason{{Code: fsm.ReasonNoNodes, Never: true,
		Message: "no node of this cluster can run it, even when idle: change its labels or resources, or add a node"}}
}

// kept replays Plan's round to find the nodes that it keeps free, and for whom.
func kept(s *fsm.State, fleet Fleet, now time.Time) map[fsm.NodeID]*fsm.Job {
	hs := hosts(s, fleet)
	jobs, _ := turns(s, now)
	for _, j := range jobs {
		if best := choose(hs, j); best != nil {
			best.take(j)
			continue
		}
		keepRoom(hs, j, now)
	}
	out := make(map[fsm.NodeID]*fsm.Job)
	for _, h := range hs {
		if h.kept != nil {
			out[h.node.ID] = h.kept
		}
	}
	return out
}

func lacks(what string, want, free int64, show func(int64) string) string {
	return fmt.Sprintf("wants %s %s, %s is free", show(want), what, show(free))
}

func tooBig(what string, want, all int64, show func(int64) string) string {
	return fmt.Sprintf("wants %s %s, the whole node has %s", show(want), what, show(all))
}

func cpu(milli int64) string { return fmt.Sprintf("%g", float64(milli)/1000) }

func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	default:
		return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
	}
}
