package api

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/codepr/narwhal/fsm"
)

// A graph's measures, in pixels.
const (
	boxWidth  = 190
	boxHeight = 46
	gapAcross = 54
	gapDown   = 14
	margin    = 4
)

// graph is how the jobs of a build need each other, as a drawing: those that need
// nothing on the left, and each other one a column to the right of the last that it
// needs.
type graph struct {
	Width, Height int
	Boxes         []graphBox
	Edges         []string // paths of SVG
}

type graphBox struct {
	Job   Job
	X, Y  int
	Label string // the name, cut to the box
	Sub   string // what is said below it
	URL   string
}

// BoxWidth is that of each box, in pixels.
func (*graph) BoxWidth() int { return boxWidth }

// BoxHeight is that of each box, in pixels.
func (*graph) BoxHeight() int { return boxHeight }

// drawGraph places jobs; their plan is left out. Jobs that need each other in a circle,
// which narwhal.yml can't have, would end in one column.
func drawGraph(jobs []Job) *graph {
	at := make(map[string]int) // places in list, by name
	var list []Job
	for _, j := range jobs {
		if j.Kind != fsm.KindPlan {
			at[j.Name] = len(list)
			list = append(list, j)
		}
	}
	column := make([]int, len(list))
	for range list { // as often as the longest way could have steps
		moved := false
		for i, j := range list {
			for _, need := range j.Needs {
				if k, ok := at[need]; ok && column[k] >= column[i] && column[k] < len(list) {
					column[i], moved = column[k]+1, true
				}
			}
		}
		if !moved {
			break
		}
	}
	columns := make(map[int][]int)
	for i, c := range column {
		columns[c] = append(columns[c], i)
	}
	g := &graph{}
	row := make([]int, len(list))
	for c := 0; c <= len(list); c++ {
		boxes := columns[c]
		// Beside what they need, so that few edges cross.
		slices.SortStableFunc(boxes, func(a, b int) int { return cmp.Compare(middle(list[a], at, row), middle(list[b], at, row)) })
		for r, i := range boxes {
			row[i] = r
			b := graphBox{Job: list[i], X: margin + c*(boxWidth+gapAcross), Y: margin + r*(boxHeight+gapDown)}
			b.Label, b.Sub, b.URL = cut(list[i].Name, 20), list[i].words(), fmt.Sprintf("/jobs/%s/log", list[i].ID)
			g.Boxes = append(g.Boxes, b)
			g.Width, g.Height = max(g.Width, b.X+boxWidth+margin), max(g.Height, b.Y+boxHeight+margin)
		}
	}
	place := make(map[string]graphBox)
	for _, b := range g.Boxes {
		place[b.Job.Name] = b
	}
	for _, b := range g.Boxes {
		for _, need := range b.Job.Needs {
			from, ok := place[need]
			if !ok {
				continue
			}
			x1, y1, x2, y2 := from.X+boxWidth, from.Y+boxHeight/2, b.X, b.Y+boxHeight/2
			bend := gapAcross / 2
			g.Edges = append(g.Edges, fmt.Sprintf("M%d %dH%dC%d %d %d %d %d %d", x1, y1, x2-gapAcross, x2-bend, y1, x2-bend, y2, x2, y2))
		}
	}
	return g
}

// middle is the mean of the rows of what a job needs.
func middle(j Job, at map[string]int, row []int) float64 {
	sum, n := 0, 0
	for _, need := range j.Needs {
		if k, ok := at[need]; ok {
			sum, n = sum+row[k], n+1
		}
	}
	if n == 0 {
		return 0
	}
	return float64(sum) / float64(n)
}

// cut shortens a text to n characters.
func cut(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}

// words say how a job stands, in a few.
func (j Job) words() string {
	text := string(j.Status)
	if j.Allowed && (j.Status == fsm.Failed || j.Status == fsm.Errored) {
		text += ", allowed"
	}
	if d := took(j.StartedAt, j.EndedAt); d != "" {
		text += " · " + d
	}
	return text
}
