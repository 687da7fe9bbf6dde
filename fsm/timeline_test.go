package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func (w *world) timeline(build string) string {
	id, err := strconv.ParseUint(build, 10, 64)
	w.check(err)
	b, ok := w.state.Build(BuildID(id))
	if !ok {
		return "none\n"
	}
	var out strings.Builder
	left, moments := w.state.Timeline(b)
	for m := range moments {
		job := "-"
		if m.Job != nil {
			job = m.Job.ID.String()
		}
		line := fmt.Sprintf("%d/%d %s %s %s", m.Term, m.Index, m.At.Format(time.TimeOnly), job, m.Turn)
		if m.N > 0 {
			line += fmt.Sprintf(" #%d %s", m.N, m.Node)
		}
		line += fmt.Sprintf(" %s %s %s", m.Status, m.Cause, quoted(m.Message))
		if m.By != "" {
			line += " by " + m.By
		}
		out.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	if left > 0 {
		fmt.Fprintf(&out, "%d left out\n", left)
	}
	return out.String()
}

// A job whose node is lost over and over, without a loss that counts, fills its
// timeline: the beginning and the end stay.
func TestTimelinesAreBounded(t *testing.T) {
	w := &world{t: t, state: New(), at: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), term: 1}
	w.block("node n1\npush r a")
	const times = maxMarks
	for range times { // three lines each
		w.block("assign 1.0 n1\nlose 1.0 never=1")
	}
	w.block("snapshot\ncancel 1")
	b, _ := w.state.Build(1)
	left, moments := w.state.Timeline(b)
	all := slices.Collect(moments)
	if want := 2 + 3*times + 3; len(all) != maxMarks || left+len(all) != want {
		t.Fatalf("%d lines, %d left out: want %d in all", len(all), left, want)
	}
	if first, last := all[0], all[maxMarks-1]; first.Turn != TurnAccepted || last.Turn != TurnEnded || last.Status != Canceled || last.Job != nil {
		t.Errorf("from %+v to %+v", first, last)
	}
	if gap := all[GapAt].Index - all[GapAt-1].Index; gap < 100 {
		t.Errorf("%d entries are between the halves", gap)
	}
}

// The audit log keeps the newest, also over a snapshot.
func TestAuditLogIsBounded(t *testing.T) {
	w := &world{t: t, state: New(), at: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), term: 1}
	const more = 7
	var entry []Command
	for i := range maxDeeds + more {
		entry = append(entry, Command{At: w.at, RaiseEpoch: &RaiseEpoch{Epoch: uint64(i + 1)}})
	}
	w.apply(entry)
	w.block("snapshot\nepoch to=99999")
	n, newest := 0, ""
	for d := range w.state.Deeds(0) {
		if n++; n == 1 {
			newest = d.On
		}
	}
	if n != maxDeeds || newest != "99999" {
		t.Errorf("%d lines, the newest of epoch %s", n, newest)
	}
	for d := range w.state.Deeds(maxDeeds) {
		if d.Seq != maxDeeds-1 {
			t.Errorf("the page begins with line %d", d.Seq)
		}
		break
	}
}

// Who reads a state sees its timeline, whatever is made of the state after that.
func TestTimelinesOfOldStatesStay(t *testing.T) {
	w := &world{t: t, state: New(), at: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), term: 1}
	w.block("node n1\npush r a")
	before := *w
	want := before.timeline("1")
	w.block("assign 1.0 n1")
	other := before // a second future of the same state
	other.block("cancel 1")
	if got := before.timeline("1"); got != want {
		t.Errorf("now it has\n%s, had\n%s", got, want)
	}
	if got := w.timeline("1"); !strings.HasSuffix(got, "assigned #1 n1\n") {
		t.Errorf("the first has\n%s", got)
	}
}
