package copies

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// TestBucketNeedsNoSecondNode has a sealed log in the bucket and on its own node. Until
// it is there a second node has all of it, also what was written last: the node may die
// in an upload, and then the other one seals it.
func TestBucketNeedsNoSecondNode(t *testing.T) {
	onLab(t, func(l *lab) {
		proceed := make(chan struct{})
		l.bucket = func(ctx context.Context, _ fsm.Blob) (fsm.NodeID, error) {
			select {
			case <-proceed:
				return fsm.BucketHolder("b"), nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		l.add("n1", "n2")
		n := l.nodes["n1"]
		a, dies := n.begin(7), n.begin(8)
		for _, a := range []*attempt{a, dies} {
			a.w.Printf("one")
			n.over(a)
			l.end(a.ref)
		}
		pass(time.Minute)
		if text, at := l.copyOf(a, "n1"); at != "n2" || text != read(t, a.path) {
			t.Errorf("while it is on its way %q has %q", at, text)
		}
		if _, ok := l.entered(a.ref); ok {
			t.Error("it was entered before it was anywhere")
		}
		proceed <- struct{}{}
		pass(3 * time.Second)
		one, other := a, dies
		if _, ok := l.entered(one.ref); !ok {
			one, other = dies, a // the two are on their way at a time
		}
		s, ok := l.entered(one.ref)
		if !ok || !slices.Equal(s.Log.Holders, []fsm.NodeID{"n1", "bucket:b"}) {
			t.Fatalf("it is held by %v", s.Log.Holders)
		}
		if blobs, err := l.nodes["n2"].sealed.List(); err != nil || len(blobs) != 0 {
			t.Errorf("the second node has %v, %v", blobs, err)
		}
		if text, at := l.copyOf(one, "n1"); at != "" {
			t.Errorf("%s still has %q", at, text)
		}
		n.die()
		close(proceed)
		pass(2 * time.Minute)
		if s, ok = l.entered(other.ref); !ok || !slices.Equal(s.Log.Holders, []fsm.NodeID{"n2", "bucket:b"}) {
			t.Errorf("of the node that died: held by %v", s.Log.Holders)
		}
	})
}

// TestBucketIsDown has a second node keep what can't go into the bucket.
func TestBucketIsDown(t *testing.T) {
	onLab(t, func(l *lab) {
		l.bucket = func(context.Context, fsm.Blob) (fsm.NodeID, error) { return "", errDown }
		l.add("n1", "n2")
		n := l.nodes["n1"]
		a := n.begin(7)
		a.w.Printf("one")
		n.over(a)
		l.end(a.ref)
		pass(5 * time.Second)
		l.wantSealed(a.ref, 1, "n1", "n2")
	})
}
