package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

func TestMetrics(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build("test", "lint")
	w.assign(job(1, 1), "b")
	w.build()
	w.build("test")
	w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 3, By: "t"}})
	w.must(fsm.Command{DrainNode: &fsm.DrainNode{Node: "a", Drain: true, By: "t"}})
	lines := func(n *node) map[string]string {
		out := map[string]string{}
		for line := range strings.Lines(n.call("GET", "/metrics", "").want(200).body) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
				out[name+"}"] = value
			} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
				out[name] = value
			}
		}
		return out
	}
	got := lines(w.nodes["a"])
	for name, want := range map[string]string{
		`narwhal_builds{status="queued"}`: "1", `narwhal_builds{status="running"}`: "1", `narwhal_builds{status="canceled"}`: "1",
		`narwhal_builds{status="passed"}`: "0", `narwhal_jobs_open{status="assigned"}`: "1", `narwhal_jobs_open{status="queued"}`: "2",
		"narwhal_queue_jobs": "2", `narwhal_placed_jobs{name="host-b",node="b"}`: "1", `narwhal_placed_jobs{name="host-a",node="a"}`: "0",
		`narwhal_nodes{drained="true"}`: "1", `narwhal_nodes{drained="false"}`: "1",
		`narwhal_node_capacity_cpu_cores{name="host-b",node="b"}`: "8", `narwhal_node_reserved_cpu_cores{name="host-b",node="b"}`: "0.1",
		"narwhal_state_index": fmt.Sprint(w.index), "narwhal_is_leader": "1", "narwhal_events_dropped_total": "0",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
	}
	if got := lines(w.nodes["b"])["narwhal_is_leader"]; got != "0" {
		t.Errorf("narwhal_is_leader is %q at a follower", got)
	}
	w.nodes["a"].bare("GET", "/metrics", "").want(401)
}
