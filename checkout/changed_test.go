package checkout

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

func TestChanged(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("refs/heads/main", files{"a": "1", "docs/read me.md": "1", "old": "same text"})
	second := o.commit("refs/heads/main", files{"a": "2", "docs/read me.md": "1", "new": "same text"}, first)
	third := o.commit("refs/heads/main", files{"a": "2", "docs/read me.md": "1", "new": "same text", "main-only": "1"}, second)
	topic := o.commit("refs/heads/topic", files{"a": "2", "docs/read me.md": "2", "new": "same text"}, second)
	gone := strings.Repeat("ab", 20)

	for _, test := range []struct {
		name, sha, before, ref string
		event                  fsm.Event
		want                   string
		known                  bool
	}{
		{"a push", second, first, "refs/heads/main", fsm.EventPush, "a new old", true},
		{"a push of nothing new", second, second, "refs/heads/main", fsm.EventPush, "", true},
		{"a pull request, from where it left its base", topic, third, "refs/heads/topic", fsm.EventPullRequest, "docs/read me.md", true},
		{"a push from another branch's head", topic, third, "refs/heads/topic", fsm.EventPush, "docs/read me.md main-only", true},
		{"a first push", second, "", "refs/heads/main", fsm.EventPush, "", false},
		{"a forced push over what is gone", second, gone, "refs/heads/main", fsm.EventPush, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			c := o.at(test.sha, test.ref)
			c.Before, c.Event = test.before, test.event
			ensure(t, s, c)
			got, known, err := s.Changed(context.Background(), c)
			slices.Sort(got)
			if err != nil || known != test.known || strings.Join(got, " ") != test.want {
				t.Errorf("changed: %q, known %v, %v; want %q, known %v", got, known, err, test.want, test.known)
			}
		})
	}
}

func TestChangedTakesNoOption(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	c := o.at(o.commit("refs/heads/main", files{"a": "1"}), "refs/heads/main")
	ensure(t, s, c)
	for _, before := range []string{"--output=/tmp/x", "HEAD", c.SHA[:10], c.SHA + "..x"} {
		c.Before = before
		if got, known, err := s.Changed(context.Background(), c); err == nil {
			t.Errorf("before %q: %q, known %v", before, got, known)
		}
	}
}
