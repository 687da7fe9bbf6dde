package pipeline

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a matrix as a test draws it.
type drawn struct {
	axes             []axis
	include, exclude []combination
}

func drawCombinations(t *rapid.T, label string, keys []string) []combination {
	var all []combination
	for i := range rapid.IntRange(0, 4).Draw(t, label) {
		c := combination{}
		for _, k := range keys {
			if rapid.Bool().Draw(t, fmt.Sprint(label, i, k)) {
				c[k] = fmt.Sprint(rapid.IntRange(0, 3).Draw(t, fmt.Sprint(label, i, k, "value")))
			}
		}
		if len(c) > 0 {
			all = append(all, c)
		}
	}
	return all
}

func drawMatrix(t *rapid.T) drawn {
	var d drawn
	var keys []string
	for i := range rapid.IntRange(0, 3).Draw(t, "axes") {
		a := axis{key: string(rune('a' + i))}
		for v := range rapid.IntRange(1, 3).Draw(t, "values") {
			a.values = append(a.values, fmt.Sprint(v))
		}
		d.axes = append(d.axes, a)
		keys = append(keys, a.key)
	}
	d.exclude = drawCombinations(t, "exclude", keys)
	d.include = drawCombinations(t, "include", append(keys, "y", "z"))
	return d
}

func (d drawn) yaml() string {
	var b strings.Builder
	b.WriteString("jobs:\n  j:\n    steps: [{command: x}]\n    matrix:\n      x-none:\n")
	for _, a := range d.axes {
		fmt.Fprintf(&b, "      %s: [%s]\n", a.key, strings.Join(a.values, ", "))
	}
	for name, all := range map[string][]combination{"include": d.include, "exclude": d.exclude} {
		if all == nil {
			continue
		}
		fmt.Fprintf(&b, "      %s:\n", name)
		for _, c := range all {
			sign := "-"
			for _, k := range slices.Sorted(maps.Keys(c)) {
				fmt.Fprintf(&b, "        %s %s: %s\n", sign, k, c[k])
				sign = " "
			}
		}
	}
	return b.String()
}

// dumb is the second implementation. It counts through the combinations like an
// odometer, and asks of each which includes are its own.
func (d drawn) dumb() []map[string]string {
	total := 1
	for _, a := range d.axes {
		total *= len(a.values)
	}
	if len(d.axes) == 0 {
		total = 0
	}
	fits := func(one map[string]string, c combination, only func(k string) bool) bool {
		for k, v := range c {
			if only(k) && one[k] != v {
				return false
			}
		}
		return true
	}
	isAxis := func(k string) bool {
		return slices.ContainsFunc(d.axes, func(a axis) bool { return a.key == k })
	}
	var all []map[string]string
	used := map[int]bool{}
	for n := range total {
		one, rest := map[string]string{}, n
		for i := len(d.axes) - 1; i >= 0; i-- {
			values := d.axes[i].values
			one[d.axes[i].key] = values[rest%len(values)]
			rest /= len(values)
		}
		out := false
		for _, ex := range d.exclude {
			out = out || fits(one, ex, func(string) bool { return true })
		}
		if out {
			continue
		}
		full := maps.Clone(one)
		for i, in := range d.include {
			if fits(one, in, isAxis) {
				used[i] = true
				for k, v := range in {
					full[k] = v
				}
			}
		}
		all = append(all, full)
	}
	for i, in := range d.include {
		if !used[i] {
			all = append(all, map[string]string(maps.Clone(in)))
		}
	}
	return all
}

func TestMatrixProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawMatrix(t)
		want := d.dumb()
		twice := false
		for i := range want {
			for j := range i {
				twice = twice || maps.Equal(want[i], want[j])
			}
		}
		p, err := plan("", []byte(d.yaml()), Options{})
		if refuse := twice || len(want) == 0; refuse != (err != nil) {
			t.Fatalf("refused: %v, want %v\n%s", err, refuse, d.yaml())
		}
		if err != nil {
			return
		}
		var got []map[string]string
		names := map[string]bool{}
		for _, j := range p.Jobs {
			got = append(got, j.Matrix)
			names[j.Name] = true
			for k, v := range j.Matrix {
				if j.Env[variableOf(matrixPrefix, k)] != v {
					t.Fatalf("job %s: env %v", j.Name, j.Env)
				}
			}
		}
		if !reflect.DeepEqual(got, want) || len(names) != len(want) {
			t.Fatalf("got %v\nwant %v\nof %s", got, want, d.yaml())
		}
	})
}

// TestNeedsProperty draws jobs that need each other, some of them a matrix. A
// file is refused exactly if a job can reach itself, which is found by squaring
// the relation.
func TestNeedsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "jobs")
		needs := make([][]bool, n)
		sizes := make([]int, n)
		var b strings.Builder
		b.WriteString("jobs:\n")
		for i := range n {
			needs[i] = make([]bool, n)
			var names []string
			for j := range n {
				if j != i && rapid.IntRange(0, 3).Draw(t, fmt.Sprint(i, "needs", j)) == 0 {
					needs[i][j] = true
					names = append(names, fmt.Sprintf("j%d", j))
				}
			}
			sizes[i] = rapid.IntRange(0, 2).Draw(t, "size")
			fmt.Fprintf(&b, "  j%d: {needs: [%s], steps: [{command: x}]", i, strings.Join(names, ", "))
			if sizes[i] > 0 {
				fmt.Fprintf(&b, ", matrix: {n: [%s]}", strings.Join([]string{"1", "2"}[:sizes[i]], ", "))
			}
			b.WriteString("}\n")
		}
		reach := make([][]bool, n)
		for i := range needs {
			reach[i] = slices.Clone(needs[i])
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		cyclic := false
		for i := range n {
			cyclic = cyclic || reach[i][i]
		}
		p, err := plan("", []byte(b.String()), Options{})
		if cyclic != (err != nil) {
			t.Fatalf("%v, with a cycle: %v\n%s", err, cyclic, b.String())
		}
		if err != nil {
			return
		}
		of := func(j Job) int {
			i := 0
			_, _ = fmt.Sscanf(j.Name, "j%d", &i)
			return i
		}
		for _, job := range p.Jobs {
			var want []string
			for _, other := range p.Jobs {
				if needs[of(job)][of(other)] {
					want = append(want, other.Name)
				}
			}
			if !slices.Equal(slices.Sorted(slices.Values(job.Needs)), slices.Sorted(slices.Values(want))) {
				t.Fatalf("%s needs %v, want %v\n%s", job.Name, job.Needs, want, b.String())
			}
		}
	})
}

// TestGlobProperty compares globs with a dumb matcher that tries everything.
func TestGlobProperty(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"a", "b", "/", "*", "**", "?", "**/", "/**"})
	rapid.Check(t, func(t *rapid.T) {
		glob := strings.Join(rapid.SliceOfN(pieces, 0, 6).Draw(t, "glob"), "")
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "/"}), 0, 7).Draw(t, "text"), "")
		if got, want := globFits(glob, text), dumbGlob(parseGlob(glob), text); got != want {
			t.Fatalf("%q fits %q: %v, want %v", glob, text, got, want)
		}
	})
}

func dumbGlob(parts []globPart, s string) bool {
	if len(parts) == 0 {
		return s == ""
	}
	for i := range len(s) + 1 {
		head, fits := s[:i], false
		switch parts[0].kind {
		case globChar:
			fits = head == string(parts[0].char)
		case globAny:
			fits = i == 1 && head != "/"
		case globStar:
			fits = !strings.Contains(head, "/")
		case globAll:
			fits = true
		case globDirs:
			fits = head == "" || strings.HasSuffix(head, "/")
		}
		if fits && dumbGlob(parts[1:], s[i:]) {
			return true
		}
	}
	return false
}
