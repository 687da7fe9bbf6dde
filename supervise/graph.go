package supervise

import "github.com/codepr/narwhal/pipeline"

// graph says which steps may run, and which are left out, as others end.
type graph struct {
	steps  []Step
	places []place
}

// place is where a step is on its way.
type place struct {
	begun, ended bool
	// broken says that it has failed, and may not, or something that it waited for.
	broken bool
}

func newGraph(steps []Step) *graph {
	return &graph{steps: steps, places: make([]place, len(steps))}
}

// next gives the steps that wait for nothing any more: each one once. Those that
// are left out count as ended.
func (g *graph) next() (start, leave []int) {
	for i := range g.steps { // needs are above, so what is left out frees only what comes later
		if g.places[i].begun || !g.free(i) {
			continue
		}
		g.places[i].begun = true
		broken := g.brokenBefore(i)
		if g.steps[i].Skip == "" && wanted(g.steps[i].On, broken) {
			start = append(start, i)
			continue
		}
		g.places[i].ended, g.places[i].broken = true, broken
		leave = append(leave, i)
	}
	return start, leave
}

// end notes that a step has ended.
func (g *graph) end(i int, broken bool) {
	g.places[i].ended = true
	g.places[i].broken = broken || g.brokenBefore(i)
}

func wanted(on pipeline.RunOn, broken bool) bool {
	switch on {
	case pipeline.Always:
		return true
	case pipeline.OnFailure:
		return broken
	default:
		return !broken
	}
}

func (g *graph) free(i int) bool {
	return g.before(i, func(p place) bool { return p.ended })
}

func (g *graph) brokenBefore(i int) bool {
	return !g.before(i, func(p place) bool { return !p.broken })
}

// before reports whether something holds for all that the step waits for. It
// looks at the nearest first, which is the last to end.
func (g *graph) before(i int, holds func(place) bool) bool {
	if !g.steps[i].Parallel {
		for k := i - 1; k >= 0; k-- {
			if !holds(g.places[k]) {
				return false
			}
		}
		return true
	}
	for _, k := range g.steps[i].Needs {
		if k >= 0 && k < i && !holds(g.places[k]) {
			return false
		}
	}
	return true
}
