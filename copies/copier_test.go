package copies

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCopyIsASecondBehind, and whole where its node is not there any more.
func TestCopyIsASecondBehind(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2", "n3")
		a := l.nodes["n1"].begin(7)
		a.w.Printf("one")
		pass(1100 * time.Millisecond)
		text, first := l.copyOf(a, "n1")
		if text != read(t, a.path) || text == "" {
			t.Fatalf("after a second the copy is %q", text)
		}
		for range 3 { // more than one chunk
			a.w.Printf("%s", strings.Repeat(strings.Repeat("long ", 1000)+"\n", 100))
		}
		a.w.Printf("two")
		pass(1100 * time.Millisecond)
		if text, at := l.copyOf(a, "n1"); text != read(t, a.path) || at != first {
			t.Fatalf("the copy has %d bytes of %d, at %s and not %s", len(text), len(read(t, a.path)), at, first)
		}
		l.nodes[first].die()
		pass(2 * time.Second)
		if text, at := l.copyOf(a, "n1"); text != read(t, a.path) || at == first {
			t.Errorf("of another node: %d bytes at %q", len(text), at)
		}
	})
}

// TestQuietLogCostsNothing: no message is sent that says nothing.
func TestQuietLogCostsNothing(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		l.nodes["n1"].begin(7).w.Printf("one")
		pass(3 * time.Second)
		before := l.tells
		pass(time.Minute)
		if l.tells != before {
			t.Errorf("%d messages in a quiet minute", l.tells-before)
		}
	})
}

// TestPeerThatDoesNotAnswer is one that gossip still sees: the next one is asked.
func TestPeerThatDoesNotAnswer(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2", "n3", "n4")
		a := l.nodes["n1"].begin(7)
		first := fsm.Rank(fsm.LogKey(a.ref.Job, a.ref.N), l.nodes["n1"].Alive())[0]
		blocked := l.nodes[first].shelf.dir
		if err := errors.Join(os.Remove(blocked), os.WriteFile(blocked, nil, 0o600)); err != nil { // nothing can be kept there
			t.Fatal(err)
		}
		a.w.Printf("one")
		pass(3 * time.Second)
		if text, at := l.copyOf(a, "n1"); text != read(t, a.path) || at == first {
			t.Errorf("the copy is %q at %s", text, at)
		}
	})
}

// TestPeerThatLostItsCopy is given all of it again.
func TestPeerThatLostItsCopy(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		a := l.nodes["n1"].begin(7)
		a.w.Printf("one")
		pass(2 * time.Second)
		if err := l.nodes["n2"].shelf.Drop("n1", a.ref); err != nil {
			t.Fatal(err)
		}
		a.w.Printf("two")
		pass(2 * time.Second)
		if text, _ := l.copyOf(a, "n1"); text != read(t, a.path) {
			t.Errorf("the copy is %q", text)
		}
	})
}

// TestEndedLogIsSealedOnTwo: small, large, and one that ended before it was copied.
func TestEndedLogIsSealedOnTwo(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		n := l.nodes["n1"]
		small, large, quick := n.begin(1), n.begin(2), n.begin(3)
		small.w.Printf("one\ntwo")
		random := make([]byte, 50)
		for i := range 60_000 { // more than a message may have, compressed or not
			for k := range random {
				random[k] = byte('!' + (i*7919+k*104729+i*k*31)%90)
			}
			large.w.Printf("%d %s", i, random)
		}
		quick.w.Printf("one")
		n.over(quick)
		l.end(quick.ref)
		pass(2 * time.Second)
		n.over(small)
		n.over(large)
		l.end(small.ref)
		l.end(large.ref)
		pass(2 * time.Second)
		l.wantSealed(small.ref, 2, "n1", "n2")
		l.wantSealed(large.ref, 60_000, "n1", "n2")
		l.wantSealed(quick.ref, 1, "n1", "n2")
		if err := n.copier.Settled(t.Context()); err != nil {
			t.Error(err)
		}
		if text, _ := l.copyOf(small, "n1"); text != "" {
			t.Error("the copy of what is sealed is left")
		}
		if read(t, small.path) == "" {
			t.Error("it is gone from where it was written at once")
		}
		pass(2 * time.Minute)
		for _, a := range []*attempt{small, large, quick} {
			if _, err := os.Stat(a.path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left where it was written: %v", a.ref, err)
			}
		}
	})
}

// TestSealWaits for the result, for a leader, and needs no second node.
func TestSealWaits(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1")
		n := l.nodes["n1"]
		a := n.begin(1)
		a.w.Printf("one")
		n.over(a)
		pass(time.Minute)
		if _, ok := l.entered(a.ref); ok {
			t.Fatal("sealed before the state knows the result")
		}
		l.end(a.ref)
		l.mu.Lock()
		l.away = true
		l.mu.Unlock()
		pass(time.Minute)
		if _, ok := l.entered(a.ref); ok || read(t, a.path) == "" {
			t.Fatal("without a leader it was entered, or it is gone")
		}
		l.mu.Lock()
		l.away = false
		l.mu.Unlock()
		pass(2 * time.Second)
		l.wantSealed(a.ref, 1, "n1")
	})
}

// TestLogOfADeadNodeIsSealed by who has the copy, on a second node again; and replaced
// by what its node has when that is back.
func TestLogOfADeadNodeIsSealed(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2", "n3")
		n := l.nodes["n1"]
		a := n.begin(1)
		a.w.Printf("one\ntwo")
		pass(2 * time.Second)
		a.w.Printf("three") // nobody else has it
		n.die()
		l.end(a.ref) // as lost
		pass(50 * time.Second)
		if _, ok := l.entered(a.ref); ok {
			t.Error("sealed while its node may come back")
		}
		pass(time.Minute)
		l.wantSealed(a.ref, 2, "n2", "n3")
		pass(2 * time.Minute)
		if text, at := l.copyOf(a, "n1"); text != "" {
			t.Errorf("the copy of what is sealed is left at %s", at)
		}
		n.start()
		n.over(a)
		pass(3 * time.Second)
		s, _ := l.entered(a.ref)
		if s.Bytes != int64(len(read(t, a.path))) {
			t.Errorf("the state has %d bytes of %d", s.Bytes, len(read(t, a.path)))
		}
	})
}

// TestSealThatItsNodeDidNotEnter: it dies in between.
func TestSealThatItsNodeDidNotEnter(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2", "n3")
		n := l.nodes["n1"]
		a := n.begin(1)
		a.w.Printf("one")
		n.over(a) // the result is not known, so it is not entered
		pass(2 * time.Second)
		n.die()
		l.end(a.ref)
		pass(2 * time.Minute)
		s, ok := l.entered(a.ref)
		if !ok {
			t.Fatal("nobody has entered it")
		}
		if s.Log.Holders[0] != "n1" || len(s.Log.Holders) != 2 {
			t.Fatalf("held by %v", s.Log.Holders)
		}
		l.wantSealed(a.ref, 1, "n1", s.Log.Holders[1])
	})
}

// TestRestartGoesOn has the sender begin anew: what the peer has is not sent again.
func TestRestartGoesOn(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		n := l.nodes["n1"]
		a := n.begin(1)
		a.w.Printf("one")
		pass(2 * time.Second)
		n.die()
		pass(10 * time.Second)
		a.w.Printf("two")
		n.start()
		n.copier.Watch(a.ref, a.path)
		pass(2 * time.Second)
		if text, _ := l.copyOf(a, "n1"); text != read(t, a.path) {
			t.Errorf("the copy is %q", text)
		}
	})
}

// TestAlone keeps logs on their node.
func TestAlone(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		n := l.nodes["n1"]
		n.copier.cfg.Alone = true
		a := n.begin(1)
		a.w.Printf("one")
		pass(2 * time.Second)
		n.over(a)
		l.end(a.ref)
		pass(2 * time.Second)
		l.wantSealed(a.ref, 1, "n1")
		if text, _ := l.copyOf(a, "n1"); text != "" || l.tells > 0 {
			t.Errorf("copied: %q, %d messages", text, l.tells)
		}
	})
}

// TestShelf takes no data that would leave a gap, and none twice.
func TestShelf(t *testing.T) {
	s, err := OpenShelf(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ref := fsm.AttemptRef{Job: fsm.JobID{Build: 4, Seq: 2}, N: 3, Token: fsm.Token{Epoch: 1, Index: 99}}
	for _, step := range []struct {
		offset int64
		data   string
		size   int64
	}{{0, "", 0}, {5, "gap", 0}, {0, "abc", 3}, {0, "abc", 3}, {1, "bcde", 5}, {9, "x", 5}, {5, "f", 6}, {-1, "zz", 6}} {
		if size, err := s.Append("n1", ref, step.offset, []byte(step.data)); err != nil || size != step.size {
			t.Errorf("%q at %d: %d bytes, want %d: %v", step.data, step.offset, size, step.size, err)
		}
	}
	c, ok := s.Find(ref.Job, ref.N)
	if !ok || c.Ref != ref || c.Owner != "n1" || read(t, c.Path) != "abcdef" {
		t.Errorf("found %+v", c)
	}
	if _, ok := s.Find(fsm.JobID{Build: 4, Seq: 2}, 30); ok {
		t.Error("found another attempt's")
	}
	if err := os.WriteFile(filepath.Join(s.dir, "rubbish"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("listed %v: %v", list, err)
	}
}

// TestStrangeSenders: what is no node's ID would be part of a path.
func TestStrangeSenders(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1")
		chunk := []Chunk{{Ref: fsm.AttemptRef{Job: fsm.JobID{Build: 1}, N: 1}, Data: []byte("x")}}
		for _, owner := range []fsm.NodeID{"", "../x", "a/b", "a-b", "a b"} {
			if _, err := l.nodes["n1"].copier.Take(t.Context(), owner, chunk); err == nil {
				t.Errorf("took a log of %q", owner)
			}
		}
		for name, body := range map[string][]byte{"rubbish": []byte("rubbish"), "too long": make([]byte, maxMessage+1)} {
			w := httptest.NewRecorder()
			l.nodes["n1"].copier.ServeHTTP(w, httptest.NewRequest("POST", "/", bytes.NewReader(body)))
			if w.Code != 400 {
				t.Errorf("%s: answered %d", name, w.Code)
			}
		}
	})
}

// TestWrongBytes have the seal refused: its name is what is in it.
func TestWrongBytes(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1")
		n := l.nodes["n1"]
		ref := fsm.AttemptRef{Job: fsm.JobID{Build: 1}, N: 1}
		for name, seal := range map[string]*Seal{
			"others":  {Log: fsm.Blob{Digest: strings.Repeat("0", 64)}, Packed: []byte("x")},
			"missing": {Log: fsm.Blob{Digest: strings.Repeat("1", 64)}},
		} {
			if _, err := n.copier.Take(t.Context(), "n2", []Chunk{{Ref: ref, Seal: seal}}); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		if list, err := n.sealed.List(); err != nil || len(list) != 0 {
			t.Errorf("left: %v, %v", list, err)
		}
	})
}

// TestCopyStopsAtTheLimit, though the job has made its log longer.
func TestCopyStopsAtTheLimit(t *testing.T) {
	onLab(t, func(l *lab) {
		l.add("n1", "n2")
		n := l.nodes["n1"]
		n.copier.cfg.Limit = 3 * maxData / 2
		a := n.begin(7)
		if err := os.Truncate(a.path, 10*maxData); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		if text, at := l.copyOf(a, "n1"); len(text) != 3*maxData/2 {
			t.Errorf("the copy at %q has %d bytes", at, len(text))
		}
	})
}
