package drill

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Round is one fault, and what came of it.
type Round struct {
	Kind string    // leader, runner or partition
	Node string    // whom it befell
	At   time.Time // by the clock of the drill

	// Detected is how long until the others had another leader, or, of a runner, until
	// it counted as lost.
	Detected time.Duration
	// Dispatch is how long until a new leader placed a job; 0 of a runner.
	Dispatch time.Duration
	// Reruns are how long it took until each job of a dead runner ran elsewhere.
	Reruns []time.Duration

	Builds    int
	Lost      int // builds that did not pass
	Doubled   int // jobs with more than one result that counted
	Disturbed int // attempts that ran elsewhere, and did not pass
}

// String is the round in a line.
func (r Round) String() string {
	var said []string
	switch r.Kind {
	case "runner":
		said = append(said, fmt.Sprintf("%s killed, lost after %s", r.Node, seconds(r.Detected)))
		if len(r.Reruns) > 0 {
			said = append(said, fmt.Sprintf("its %d jobs ran elsewhere after %s", len(r.Reruns), seconds(slices.Max(r.Reruns))))
		}
	case "partition":
		said = append(said, fmt.Sprintf("%s cut off, another led after %s, jobs placed after %s", r.Node, seconds(r.Detected), seconds(r.Dispatch)))
	default:
		said = append(said, fmt.Sprintf("%s killed, another led after %s, jobs placed after %s", r.Node, seconds(r.Detected), seconds(r.Dispatch)))
	}
	return strings.Join(append(said, fmt.Sprintf("builds %d, lost %d, doubled %d, disturbed %d", r.Builds, r.Lost, r.Doubled, r.Disturbed)), "; ")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }

// Report is what a drill found.
type Report struct {
	Nodes     int
	Voters    int
	Executors []string
	Rounds    []Round

	Doubled  int // builds that nobody asked for
	Diverged int // voters whose state is another than the leader's
}

func (r *Report) add(round Round) { r.Rounds = append(r.Rounds, round) }

// Sums are a report's totals, all to be 0 but Builds.
type Sums struct {
	Builds    int `json:"builds"`
	Lost      int `json:"lost"`
	Doubled   int `json:"doubled"`
	Disturbed int `json:"disturbed"`
	Diverged  int `json:"diverged"`
}

// Sums adds all rounds up.
func (r *Report) Sums() Sums {
	s := Sums{Doubled: r.Doubled, Diverged: r.Diverged}
	for _, round := range r.Rounds {
		s.Builds += round.Builds
		s.Lost += round.Lost
		s.Doubled += round.Doubled
		s.Disturbed += round.Disturbed
	}
	return s
}

// Kept reports whether every promise was kept.
func (r *Report) Kept() bool {
	s := r.Sums()
	return s.Lost == 0 && s.Doubled == 0 && s.Disturbed == 0 && s.Diverged == 0
}

// spread is how a figure is distributed, in seconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_s"`
	P95 float64 `json:"p95_s"`
	Max float64 `json:"max_s"`
}

// newSpread takes nearest-rank percentiles; none of an empty set.
func newSpread(values []time.Duration) *spread {
	if len(values) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 {
		return math.Round(sorted[int(math.Ceil(p*float64(len(sorted))))-1].Seconds()*1000) / 1000
	}
	return &spread{N: len(sorted), P50: at(0.5), P95: at(0.95), Max: at(1)}
}

// part is what the rounds of one kind came to.
type part struct {
	Detected *spread `json:"detected,omitempty"`
	Dispatch *spread `json:"dispatch,omitempty"`
	Rerun    *spread `json:"rerun,omitempty"`
}

func (r *Report) part(kind string) *part {
	var detected, dispatch, rerun []time.Duration
	for _, round := range r.Rounds {
		if round.Kind != kind {
			continue
		}
		detected = append(detected, round.Detected)
		if kind != "runner" {
			dispatch = append(dispatch, round.Dispatch)
		}
		rerun = append(rerun, round.Reruns...)
	}
	if detected == nil {
		return nil
	}
	return &part{newSpread(detected), newSpread(dispatch), newSpread(rerun)}
}

// MarshalJSON gives the report to programs: times in seconds.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Nodes     int      `json:"nodes"`
		Voters    int      `json:"voters"`
		Executors []string `json:"executors"`
		Leader    *part    `json:"leader,omitempty"`
		Runner    *part    `json:"runner,omitempty"`
		Partition *part    `json:"partition,omitempty"`
		Sums
	}{r.Nodes, r.Voters, r.Executors, r.part("leader"), r.part("runner"), r.part("partition"), r.Sums()})
}

// Write gives the report to people, as a table.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tTIMES\tP50\tP95\tMAX")
	for _, kind := range []struct{ name, detected string }{
		{"leader", "leader killed: another leads"}, {"runner", "runner killed: it counts as lost"}, {"partition", "leader cut off: another leads"},
	} {
		p := r.part(kind.name)
		if p == nil {
			continue
		}
		line(t, kind.detected, p.Detected)
		line(t, "  jobs are placed again", p.Dispatch)
		line(t, "  its jobs run elsewhere", p.Rerun)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	s := r.Sums()
	_, err := fmt.Fprintf(w, "builds %d, lost %d, doubled %d, disturbed %d, diverged voters %d\n", s.Builds, s.Lost, s.Doubled, s.Disturbed, s.Diverged)
	return err
}

func line(w io.Writer, what string, s *spread) {
	if s != nil {
		fmt.Fprintf(w, "%s\t%d\t%.2fs\t%.2fs\t%.2fs\n", what, s.N, s.P50, s.P95, s.Max)
	}
}
