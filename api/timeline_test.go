package api_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/codepr/narwhal/api"
)

// TestAuditPages: the newest deed comes first, each is on one page, and the last page
// names no next one, also where it is full.
func TestAuditPages(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	for i := range 4 {
		n.call("POST", "/api/v1/nodes/a/"+[]string{"drain", "resume"}[i%2], "").want(200)
	}
	read := func(query string) (out api.AuditLog) {
		t.Helper()
		n.call("GET", "/api/v1/audit"+query, "").want(200).into(&out)
		return out
	}
	all := read("")
	if len(all.Deeds) != 4 || all.Next != 0 {
		t.Fatalf("got %+v", all)
	}
	for _, limit := range []int{1, 2, 3, 4} {
		var seqs []uint64
		query := fmt.Sprintf("?limit=%d", limit)
		pages := 0
		for next := uint64(1); next != 0 && pages < 5; pages++ {
			page := read(query)
			if len(page.Deeds) == 0 || len(page.Deeds) > limit {
				t.Fatalf("a page of %d has %d", limit, len(page.Deeds))
			}
			for _, d := range page.Deeds {
				seqs = append(seqs, d.Seq)
			}
			next = page.Next
			query = fmt.Sprintf("?limit=%d&before=%d", limit, next)
		}
		var want []uint64
		for _, d := range all.Deeds {
			want = append(want, d.Seq)
		}
		if !slices.Equal(seqs, want) || !slices.IsSortedFunc(seqs, func(a, b uint64) int { return int(b) - int(a) }) || pages != (4+limit-1)/limit {
			t.Errorf("by %d: %v in %d pages, want %v", limit, seqs, pages, want)
		}
	}
	if none := read(fmt.Sprintf("?before=%d", all.Deeds[3].Seq)); len(none.Deeds) != 0 || none.Next != 0 {
		t.Errorf("before the first: %+v", none)
	}
	for _, bad := range []string{"?limit=0", "?limit=201", "?before=x"} {
		n.call("GET", "/api/v1/audit"+bad, "").want(422)
	}
}
