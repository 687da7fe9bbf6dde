package api

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/codepr/narwhal/fsm"
)

// Collector makes Prometheus metrics of the state as it is when they are asked for.
// The counts are the cluster's, the same on every node that follows the log.
type Collector struct {
	state   State
	cluster Cluster

	builds, jobs, queue, placed, nodes, capacity, reserved, index, leader, waiting, dropped *prometheus.Desc
}

// NewCollector makes a collector; register it where Deps.Metrics comes from.
func NewCollector(state State, cluster Cluster) *Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("narwhal_"+name, help, labels, nil)
	}
	return &Collector{
		state: state, cluster: cluster,
		builds:   d("builds", "Builds that are kept, by status.", "status"),
		jobs:     d("jobs_open", "Jobs of live builds that have not ended, by status.", "status"),
		queue:    d("queue_jobs", "Jobs that wait for a node."),
		placed:   d("placed_jobs", "Jobs that lie on a node, by node.", "node", "name"),
		nodes:    d("nodes", "Nodes that run jobs, by whether they are drained.", "drained"),
		capacity: d("node_capacity_cpu_cores", "CPUs that a node offers to jobs.", "node", "name"),
		reserved: d("node_reserved_cpu_cores", "CPUs of a node that are reserved by jobs.", "node", "name"),
		index:    d("state_index", "Index of the last log entry in this node's state."),
		leader:   d("is_leader", "1 where this node leads, else 0."),
		waiting:  d("events_waiting", "Events that wait to be published."),
		dropped:  d("events_dropped_total", "Events lost because too many waited."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.builds, c.jobs, c.queue, c.placed, c.nodes, c.capacity, c.reserved, c.index, c.leader, c.waiting, c.dropped} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.state.State()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	builds, jobs := countByStatus(s)
	for _, status := range []fsm.Status{fsm.Queued, fsm.Running, fsm.Passed, fsm.Failed, fsm.Errored, fsm.Canceled} {
		gauge(c.builds, float64(builds[status]), string(status))
	}
	for _, status := range []fsm.Status{fsm.Blocked, fsm.Queued, fsm.Assigned, fsm.Running} {
		gauge(c.jobs, float64(jobs[status]), string(status))
	}
	drained, open := 0, 0
	for n := range s.Nodes() {
		if n.Drained {
			drained++
		} else {
			open++
		}
		gauge(c.placed, float64(n.Placed), string(n.ID), n.Name)
		gauge(c.capacity, float64(n.Capacity.CPU)/1000, string(n.ID), n.Name)
		gauge(c.reserved, float64(n.Reserved.CPU)/1000, string(n.ID), n.Name)
	}
	gauge(c.nodes, float64(open), "false")
	gauge(c.nodes, float64(drained), "true")
	gauge(c.queue, float64(s.QueuedCount()))
	gauge(c.index, float64(s.Index()))
	leads := 0.0
	if leader, _ := c.cluster.Leader(); leader.ID != "" && leader.ID == c.cluster.Self() {
		leads = 1
	}
	gauge(c.leader, leads)
	waiting, dropped := s.OutboxLen()
	gauge(c.waiting, float64(waiting))
	ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(dropped))
}

func countByStatus(s *fsm.State) (builds, jobs map[fsm.Status]int) {
	builds, jobs = make(map[fsm.Status]int), make(map[fsm.Status]int)
	for b := range s.Builds(0) {
		builds[b.Status]++
		if b.Status.Terminal() {
			continue
		}
		for j := range s.Jobs(b.ID) {
			if !j.Status.Terminal() {
				jobs[j.Status]++
			}
		}
	}
	return builds, jobs
}
