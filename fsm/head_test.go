package fsm

import (
	"fmt"
	"testing"
	"time"
)

// TestHeadsAreBounded fills a repository, and then all that there is room for: the remotes
// that were not pushed to for longest go, and never the one that was just now.
func TestHeadsAreBounded(t *testing.T) {
	s := newest()
	do := func(c Command) {
		t.Helper()
		c.At = s.Now().Add(time.Second)
		s, _ = Apply(s, s.Index()+1, 1, []Command{c})
		if err := s.Verify(); err != nil {
			t.Fatal(err)
		}
	}
	push := func(repo, ref string) {
		t.Helper()
		c := Commit{Repo: repo, CloneURL: "git://" + repo, SHA: ref, Ref: ref, Event: EventPush}
		do(Command{AddBuild: &AddBuild{Key: c.Key(), Commit: c}})
	}
	look := func(repo string, n int) {
		t.Helper()
		c := &SeeHeads{Repo: repo, CloneURL: "git://" + repo, Done: true}
		for i := range n {
			c.Heads = append(c.Heads, SeenHead{Ref: fmt.Sprintf("refs/heads/b%05d", i), SHA: "1"})
		}
		do(Command{SeeHeads: c})
	}
	heads := func(repo string) (n int) {
		for range s.Heads(repo) {
			n++
		}
		return n
	}
	for i := range 11 {
		repo := fmt.Sprint("r", i)
		push(repo, "refs/heads/main")
		look(repo, MaxRepoHeads+10)
		if n := heads(repo); n != MaxRepoHeads {
			t.Fatalf("%s has %d heads", repo, n)
		}
	}
	if _, ok := s.Remote("r0"); ok || heads("r0") > 0 || heads("r1") != MaxRepoHeads {
		t.Errorf("the first has %d heads, the second %d", heads("r0"), heads("r1"))
	}
	push("r5", "refs/heads/one-more") // there is no room for it, and no harm done
	if heads("r5") != MaxRepoHeads {
		t.Errorf("%d heads", heads("r5"))
	}

	tx := begin(s, s.Index()+1)
	for i := range maxRemotes {
		tx.advance(s.Now().Add(time.Duration(i+1) * time.Second))
		tx.noteHead(&AddBuild{Commit: Commit{Repo: fmt.Sprint("s", i), CloneURL: "git://s", SHA: "1", Ref: "refs/heads/main", Event: EventPush}})
	}
	s = tx.commit()
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	if _, ok := s.Remote("r10"); ok {
		t.Error("one that was not pushed to for longest is there")
	}
	if _, ok := s.Remote("s0"); !ok {
		t.Error("one that there is room for is gone")
	}
}
