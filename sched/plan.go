package sched

import (
	"cmp"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Presence is what the leader knows of a node beyond the replicated state.
type Presence struct {
	Incarnation uint64
	Connected   bool            // it has a stream, and its last beat is recent
	Have        map[string]bool // repositories whose mirror it holds
	Images      map[string]bool // images that it holds, named as files name them
	Full        bool            // its disk is full: it takes no jobs
}

// Fleet is who is there. It is the leader's memory, never replicated.
type Fleet map[fsm.NodeID]Presence

const (
	// plansPerNode bounds the plans that lie on a node at a time: they reserve
	// nothing, but each may fetch.
	plansPerNode = 8
	// starveAfter is how long a job that fits some empty node waits for room
	// before a node is kept free for it. Until then smaller jobs pass it by.
	starveAfter = 30 * time.Second
	// holdsRepo, holdsImage and lostBefore weigh against the node's load, which is
	// between 0 and 1: a warm mirror and the image are worth a quarter of a node
	// each, a node that lost the job once is only taken when there is hardly another.
	holdsRepo  = 0.25
	holdsImage = 0.25
	lostBefore = 0.9
)

// Plan places queued jobs on nodes of fleet: all that fit now, in the order of
// their turns. It returns what to propose, and when a job that waits for its
// time comes due (zero where none does).
func Plan(s *fsm.State, fleet Fleet, now time.Time) (place []fsm.AssignJob, due time.Time) {
	if s.QueuedCount() == 0 {
		return nil, time.Time{}
	}
	hosts := hosts(s, fleet)
	jobs, due := turns(s, now)
	for _, j := range jobs {
		if len(hosts) == 0 {
			break
		}
		best := choose(hosts, j)
		if best == nil {
			keepRoom(hosts, j, now)
			continue
		}
		best.take(j)
		place = append(place, fsm.AssignJob{
			Job: j.ID, N: len(j.Attempts) + 1, Node: best.node.ID, Incarnation: best.node.Incarnation,
		})
	}
	return place, due
}

// host is a node that may get jobs in this round, with what is left of it.
type host struct {
	node  *fsm.Node
	p     Presence
	free  pipeline.Resources
	plans int
	kept  *fsm.Job // room is kept for this job
}

func hosts(s *fsm.State, fleet Fleet) []*host {
	var out []*host
	for n := range s.Nodes() {
		p := fleet[n.ID]
		if !p.Connected || p.Incarnation != n.Incarnation || n.Drained || p.Full {
			continue
		}
		out = append(out, &host{node: n, p: p, free: n.Free(), plans: plansOn(s, n.ID)})
	}
	return out
}

func plansOn(s *fsm.State, node fsm.NodeID) int {
	n := 0
	for j := range s.Placed(node) {
		if j.Kind == fsm.KindPlan {
			n++
		}
	}
	return n
}

// turns orders the jobs that may start now: by priority, then round-robin over
// the repositories, where what a repository already runs counts as turns it has
// had, then by age. Within a concurrency group age alone says whose turn it is.
func turns(s *fsm.State, now time.Time) (jobs []*fsm.Job, due time.Time) {
	taken := make(map[string]int)
	for j := range s.AllPlaced() {
		taken[j.Repo]++
	}
	type turn struct {
		job *fsm.Job
		n   int
	}
	var order []turn
	lines := make(queues)
	for j := range s.Queued() {
		if j.NotBefore.After(now) {
			due = earliest(due, j.NotBefore)
			continue
		}
		if !lines.admit(s, j) {
			continue
		}
		order = append(order, turn{job: j, n: taken[j.Repo]})
		taken[j.Repo]++
	}
	slices.SortStableFunc(order, func(a, b turn) int {
		return cmp.Or(cmp.Compare(b.job.Priority, a.job.Priority), cmp.Compare(a.n, b.n))
	})
	jobs = make([]*fsm.Job, len(order))
	for i := range order {
		jobs[i] = order[i].job
	}
	return jobs, due
}

// choose picks the best host that has room, or nil.
func choose(hosts []*host, j *fsm.Job) *host {
	var best *host
	var bestScore float64
	for _, h := range hosts {
		if !h.takes(j) {
			continue
		}
		if score := h.score(j); best == nil || score < bestScore {
			best, bestScore = h, score
		}
	}
	return best
}

func (h *host) takes(j *fsm.Job) bool {
	if j.Kind == fsm.KindPlan {
		return h.plans < plansPerNode
	}
	if h.kept != nil && h.kept.ID != j.ID {
		return false
	}
	return h.node.Matches(j.Spec.Labels) && within(j.Request(), h.free)
}

func within(r, free pipeline.Resources) bool {
	return r.CPU <= free.CPU && r.Memory <= free.Memory && r.Disk <= free.Disk
}

// score is lower the better the host suits: how full it would be, corrected by
// what it holds and what it has lost.
func (h *host) score(j *fsm.Job) float64 {
	var load float64
	if j.Kind == fsm.KindPlan {
		load = float64(h.plans) / plansPerNode
	} else {
		load = max(share(h.node.Capacity.CPU-h.free.CPU+j.Spec.Resources.CPU, h.node.Capacity.CPU),
			share(h.node.Capacity.Memory-h.free.Memory+j.Spec.Resources.Memory, h.node.Capacity.Memory))
	}
	if h.p.Have[j.Repo] {
		load -= holdsRepo
	}
	if j.Spec != nil && h.p.Images[j.Spec.Image] {
		load -= holdsImage
	}
	for _, a := range j.Attempts {
		if a.Node == h.node.ID && a.Cause == fsm.CauseNodeLost {
			load += lostBefore
		}
	}
	return load
}

func share(used, all int64) float64 {
	if all <= 0 {
		return 1
	}
	return float64(used) / float64(all)
}

func (h *host) take(j *fsm.Job) {
	if j.Kind == fsm.KindPlan {
		h.plans++
		return
	}
	r := j.Request()
	h.free.CPU -= r.CPU
	h.free.Memory -= r.Memory
	h.free.Disk -= r.Disk
	if h.kept != nil && h.kept.ID == j.ID {
		h.kept = nil
	}
}

// keepRoom keeps a host for a job that has waited long: the one that is nearest
// to having room for it. Jobs that come after it in this round don't get it, so
// that a big job is not starved by small ones.
func keepRoom(hosts []*host, j *fsm.Job, now time.Time) {
	if j.Kind == fsm.KindPlan || now.Sub(waitingSince(j)) < starveAfter {
		return
	}
	var best *host
	var bestLack float64
	for _, h := range hosts {
		if h.kept != nil || !h.node.Matches(j.Spec.Labels) || !within(j.Request(), h.node.Capacity) {
			continue
		}
		if lack := h.lack(j.Request()); best == nil || lack < bestLack {
			best, bestLack = h, lack
		}
	}
	if best != nil {
		best.kept = j
	}
}

// lack is how much of the node would have to become free, as the largest share.
func (h *host) lack(r pipeline.Resources) float64 {
	all := h.node.Capacity
	most := max(share(r.CPU-h.free.CPU, all.CPU), share(r.Memory-h.free.Memory, all.Memory))
	if r.Disk > 0 {
		most = max(most, share(r.Disk-h.free.Disk, all.Disk))
	}
	return most
}

// waitingSince is when the job began to wait for the place that it waits for
// now.
func waitingSince(j *fsm.Job) time.Time {
	since := j.QueuedAt
	if a, ok := j.Current(); ok && a.EndedAt.After(since) {
		since = a.EndedAt
	}
	if j.NotBefore.After(since) {
		since = j.NotBefore
	}
	return since
}
