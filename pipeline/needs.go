package pipeline

import "strings"

// checkNeeds sees that needs name other jobs, each once, without a cycle: a job
// that can never start must not be accepted.
func (r *reader) checkNeeds(jobs []*body) {
	index := make(map[string]int, len(jobs))
	names := make([]string, len(jobs))
	for i, job := range jobs {
		index[job.name] = i
		names[i] = job.name
	}
	graph := make([][]edge, len(jobs))
	for i, job := range jobs {
		seen := map[string]bool{}
		for _, need := range job.needs {
			to, known := index[need.text]
			switch {
			case seen[need.text]:
				r.errorf(need.at, "needs: %s is there twice", quote(need.text))
			case need.text == job.name:
				r.errorf(need.at, "needs: job %s needs itself", quote(need.text))
			case !known:
				r.unknownNeed(need, names)
			default:
				graph[i] = append(graph[i], edge{to, need})
			}
			seen[need.text] = true
		}
	}
	f := cycleFinder{r: r, names: names, graph: graph, state: make([]visit, len(jobs)), told: make([]bool, len(jobs))}
	for i := range jobs {
		f.visit(i)
	}
}

func (r *reader) unknownNeed(need name, names []string) {
	if s := suggest(need.text, names); s != "" {
		r.errorf(need.at, "needs: there is no job %s: did you mean %q?", quote(need.text), s)
		return
	}
	r.errorf(need.at, "needs: there is no job %s", quote(need.text))
}

type edge struct {
	to   int
	need name
}

type visit int

const (
	unvisited visit = iota
	onPath
	finished
)

// cycleFinder walks depth first and tells each job's cycle at most once, since
// jobs that all need each other make more cycles than anyone can read.
type cycleFinder struct {
	r     *reader
	names []string
	graph [][]edge
	state []visit
	path  []int
	told  []bool
}

func (f *cycleFinder) visit(i int) {
	if f.state[i] != unvisited {
		return
	}
	f.state[i] = onPath
	f.path = append(f.path, i)
	for _, e := range f.graph[i] {
		if f.state[e.to] == onPath {
			f.tell(e)
			continue
		}
		f.visit(e.to)
	}
	f.path = f.path[:len(f.path)-1]
	f.state[i] = finished
}

// tell notes the cycle that the edge e closes, from the job it leads to.
func (f *cycleFinder) tell(e edge) {
	start := len(f.path) - 1
	for f.path[start] != e.to {
		start--
	}
	cycle := f.path[start:]
	for _, i := range cycle {
		if f.told[i] {
			return
		}
	}
	var names []string
	for _, i := range cycle {
		f.told[i] = true
		names = append(names, f.names[i])
	}
	const most = 10
	if len(names) > most {
		names = append(names[:most-1], "…", names[len(names)-1])
	}
	f.r.errorf(e.need.at, "needs: jobs wait for each other: %s → %s", strings.Join(names, " → "), names[0])
}
