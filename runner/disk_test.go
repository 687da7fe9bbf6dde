package runner

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"
)

func TestParseMark(t *testing.T) {
	for text, want := range map[string]Mark{"85%": {Percent: 85}, "1%": {Percent: 1}, "20Gi": {Free: 20 << 30}, "512Mi": {Free: 512 << 20}} {
		if got, err := ParseMark(text); got != want || err != nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "0%", "100%", "-1%", "8.5%", "85 %", "full", "0", "-1Gi"} {
		if got, err := ParseMark(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
	percent := func(n int) Mark { return Mark{Percent: n} }
	free := func(n int64) Mark { return Mark{Free: n} }
	for _, c := range []struct {
		high, low Mark
		ok        bool
	}{
		{percent(85), percent(75), true}, {percent(75), percent(85), false}, {percent(80), percent(80), false},
		{free(10), free(20), true}, {free(20), free(10), false},
		{percent(85), free(10), true}, {free(10), percent(75), true}, // which of them is higher the disk's size tells
	} {
		if err := (Marks{c.high, c.low}).Validate(); (err == nil) != c.ok {
			t.Errorf("high %s, low %s: %v", c.high, c.low, err)
		}
	}
	if err := (Marks{}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestAssess tells of a disk of 1,000 bytes what is to go, and whether it is full.
func TestAssess(t *testing.T) {
	shares := Marks{High: Mark{Percent: 85}, Low: Mark{Percent: 75}}
	sizes := Marks{High: Mark{Free: 100}, Low: Mark{Free: 300}}
	var (
		calm    = strain{}
		busy    = strain{tried: true}
		full    = strain{full: true}
		tried   = strain{full: true, tried: true}
		waiting = strain{full: true, tried: true, idle: true}
	)
	for _, c := range []struct {
		name  string
		marks Marks
		used  int64
		s     strain
		free  int64
		full  bool
	}{
		{"no marks", Marks{}, 999, full, 0, false},
		{"plenty", shares, 100, calm, 0, false},
		{"between the marks nothing goes", shares, 800, calm, 0, false},
		{"at the high mark", shares, 850, calm, 0, false},
		{"above it", shares, 860, calm, 110, false},
		{"far above it jobs are refused at once", shares, 960, calm, 210, true},
		{"above it with nothing more to remove", shares, 860, busy, 0, true},
		{"full, and it goes on until the low mark", shares, 800, full, 50, true},
		{"between, with a job that may free more", shares, 800, tried, 0, true},
		{"between, and nothing runs that would", shares, 800, waiting, 0, false},
		{"above, and nothing runs", shares, 860, waiting, 0, true},
		{"at the low mark it ends", shares, 750, full, 0, false},
		{"at the low mark after clearing", shares, 750, tried, 0, false},
		{"sizes: enough is free", sizes, 900, calm, 0, false},
		{"sizes: too little is free", sizes, 901, calm, 201, false},
		{"sizes: nothing is free", sizes, 1000, calm, 300, true},
		{"a low mark above the high one is that one", Marks{High: Mark{Percent: 50}, Low: Mark{Free: 1}}, 600, calm, 100, false},
		{"more to be free than there is", Marks{High: Mark{Free: 2000}, Low: Mark{Free: 3000}}, 10, calm, 10, false},
	} {
		if free, isFull := assess(level{1000, c.used}, c.marks, c.s); free != c.free || isFull != c.full {
			t.Errorf("%s: free %d, full %v; want %d, %v", c.name, free, isFull, c.free, c.full)
		}
	}
}

func TestShare(t *testing.T) {
	at := func(hour int, bytes int64) Kept {
		return Kept{bytes, time.Date(2026, 11, 1, hour, 0, 0, 0, time.UTC)}
	}
	mirrors := []Kept{at(9, 10), at(1, 20)}
	files := []Kept{at(2, 5), at(3, 5), at(4, 5), at(20, 100)}
	image := func(hour int) []Kept { return []Kept{at(hour, 0)} }
	for _, c := range []struct {
		name    string
		shelves [][]Kept
		free    int64
		want    []int64
	}{
		{"nothing there", [][]Kept{nil, nil}, 10, []int64{0, 0}},
		{"nothing to do", [][]Kept{mirrors, files}, 0, []int64{0, 0}},
		{"the oldest alone", [][]Kept{mirrors, files}, 20, []int64{20, 0}},
		{"in turn", [][]Kept{mirrors, files}, 31, []int64{20, 15}},
		{"and back to the first", [][]Kept{mirrors, files}, 36, []int64{30, 15}},
		{"all there is", [][]Kept{mirrors, files}, 1000, []int64{30, 115}},
		{"an image that is the oldest goes alone", [][]Kept{mirrors, files, image(0)}, 1000, []int64{0, 0, 1}},
		{"those that are older than an image go first", [][]Kept{mirrors, files, image(3)}, 1000, []int64{20, 10, 0}},
	} {
		if got := share(c.shelves, c.free); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestStock: nothing is made ahead on a disk above its high mark, nor on a full one,
// and what was goes before anything else does.
func TestStock(t *testing.T) {
	var said []string
	used := map[string]int64{"/a": 100, "/b": 100}
	freed := int64(0)
	shelf := Shelf{Name: "things", List: func(context.Context) ([]Kept, error) { return []Kept{{Bytes: freed}}, nil },
		Free: func(context.Context, int64) (int64, error) {
			said = append(said, "clear")
			used["/b"] -= freed
			return freed, nil
		}}
	d := &diskWatch{
		marks: Marks{High: Mark{Percent: 85}, Low: Mark{Percent: 75}}, running: func() int { return 1 }, log: slog.New(slog.DiscardHandler),
		rest: map[string]time.Time{}, scant: map[string]bool{}, full: map[string]bool{},
		places:  func(context.Context) []place { return []place{{path: "/a"}, {path: "/b", shelves: []Shelf{shelf}}} },
		measure: func(path string) (level, error) { return level{1000, used[path]}, nil },
		stock:   func(room bool) { said = append(said, map[bool]string{true: "room", false: "none"}[room]) },
	}
	for _, step := range []struct {
		name        string
		a, b, freed int64
		want        []string
	}{
		{"plenty", 100, 100, 0, nil},
		{"above the mark, cleared at once", 100, 860, 200, []string{"none", "clear", "room"}},
		{"above the mark, and nothing goes", 100, 860, 0, []string{"none", "clear"}},
		{"still, and the other disk too", 900, 860, 0, nil},
		{"the other one only", 900, 100, 0, nil},
		{"full until the low mark", 800, 100, 0, nil},
		{"room", 700, 100, 0, []string{"room"}},
	} {
		said, used["/a"], used["/b"], freed = nil, step.a, step.b, step.freed
		d.look(t.Context())
		if !slices.Equal(said, step.want) {
			t.Errorf("%s: %v, want %v", step.name, said, step.want)
		}
	}
}
