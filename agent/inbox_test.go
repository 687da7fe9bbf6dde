package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

func openInbox(t *testing.T) *inbox.Inbox {
	t.Helper()
	b, err := inbox.Open(filepath.Join(t.TempDir(), "inbox.db"), inbox.Bounds{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// atDesk calls a leader's desk as other nodes do, over its log.
func atDesk(log *fakeLog) LeaderQueue {
	desk := &Desk{Proposer: log, Overtaken: log.overtaken, Log: quiet(), Made: func(key string) (fsm.BuildID, bool) {
		if b, ok := log.now().BuildByKey(key); ok {
			return b.ID, true
		}
		return 0, false
	}}
	return LeaderQueue{Call: func(ctx context.Context, call, answer any) error {
		body, err := json.Marshal(call)
		if err != nil {
			return err
		}
		w := httptest.NewRecorder()
		desk.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body)))
		if w.Code != http.StatusOK {
			return fmt.Errorf("it answered %d", w.Code)
		}
		return json.Unmarshal(w.Body.Bytes(), answer)
	}}
}

// keeping are hooks that keep what comes, before a leader.
func keeping(t *testing.T, log *fakeLog) (*Hooks, *inbox.Inbox) {
	t.Helper()
	b, q := openInbox(t), atDesk(log)
	h, err := NewHooks(testConfig(), q, Record{Inbox: b, Again: q.Again}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return h, b
}

func sent(h *Hooks, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDeliveriesAreKeptWithTheirOutcome(t *testing.T) {
	log := newFakeLog()
	h, b := keeping(t, log)
	push := testdata(t, "push_branch")
	hostile := strings.ReplaceAll(push, "https://github.com/acme/api.git", "https://evil.example/acme/api.git")
	forged := delivery("push", push, "a guess at it")
	forged.Header.Set("Authorization", "Bearer token")
	unsigned := httptest.NewRequest(http.MethodPost, "/hooks/github", strings.NewReader(push))
	for _, tt := range []struct {
		name   string
		r      *http.Request
		code   int
		status inbox.Status
		reason string
		build  fsm.BuildID
	}{
		{"a push", delivery("push", push, acmeSecret), 202, inbox.Accepted, "", 1},
		{"the same", delivery("push", push, acmeSecret), 202, inbox.Known, "", 1},
		{"a ping", delivery("ping", testdata(t, "ping"), acmeSecret), 200, inbox.Ignored, "works", 0},
		{"a deletion", delivery("push", testdata(t, "push_branch_deleted"), acmeSecret), 202, inbox.Accepted, "deleted branch old", 0},
		{"another host", delivery("push", hostile, acmeSecret), 422, inbox.Refused, "only the hosts", 0},
		{"a bad signature", forged, 403, inbox.Refused, "does not fit", 0},
		{"none", unsigned, 401, inbox.Refused, "not signed", 0},
	} {
		w := sent(h, tt.r)
		all, err := b.List(inbox.Filter{Limit: 1})
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		d, body, err := b.Find(all[0].ID)
		if err != nil || w.Code != tt.code || d.Status != tt.status || !strings.Contains(d.Reason, tt.reason) || d.Build != tt.build {
			t.Errorf("%s: answered %d, kept %+v, %v", tt.name, w.Code, d, err)
		}
		trusted := tt.code != 401 && tt.code != 403
		if d.Verified != trusted || (len(body) > 0) != trusted || trusted != (w.Header().Get(HeaderDelivery) == d.ID) {
			t.Errorf("%s: verified %v, with a body of %d bytes, answered as %q", tt.name, d.Verified, len(body), w.Header().Get(HeaderDelivery))
		}
		whole, err := json.Marshal(d)
		if err != nil || strings.Contains(string(whole), "Bearer") || strings.Contains(string(whole), "sha256=") {
			t.Errorf("%s: a credential was kept: %s, %v", tt.name, whole, err)
		}
	}
}

// TestCutOff has the leader away, and then comes the end of the process: what was kept is
// handed in by the next one, once.
func TestCutOff(t *testing.T) {
	log := newFakeLog()
	h, b := keeping(t, log)
	away := func(fsm.Command) error { return fmt.Errorf("%w: elect", ErrNotLeader) }
	log.setFault(away)
	push := testdata(t, "push_branch")
	if w := sent(h, delivery("push", push, acmeSecret)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "elect") {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	cut := inbox.Delivery{Path: "/hooks/github", Event: "push", Type: "application/json", Repo: "acme/api"}
	if err := b.Keep(&cut, []byte(strings.ReplaceAll(push, "refs/heads/main", "refs/heads/dev"))); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle(cut.ID, inbox.Outcome{Status: inbox.Waiting}); err != nil { // nobody holds it: as after a crash
		t.Fatal(err)
	}
	left, err := h.settleAll(t.Context())
	if all, _ := b.List(inbox.Filter{Status: inbox.Waiting}); !left || err != nil || len(all) != 2 || !strings.Contains(all[0].Reason, "503") {
		t.Fatalf("without a leader: %v, %v, %+v", left, err, all)
	}
	log.setFault(nil)
	stop := running(t, h.Run)
	log.mustUntil(t, "both are built", func(s *fsm.State) bool { return s.BuildCount() == 2 })
	stop()
	all, err := b.List(inbox.Filter{Status: inbox.Accepted})
	if err != nil || len(all) != 2 || log.builds() != 2 {
		t.Errorf("%d builds, accepted: %+v, %v", log.builds(), all, err)
	}
	if left, err := h.settleAll(t.Context()); left || err != nil || log.builds() != 2 {
		t.Errorf("again: %v, %v, %d builds", left, err, log.builds())
	}
}

func TestReplay(t *testing.T) {
	log := newFakeLog()
	h, b := keeping(t, log)
	w := sent(h, delivery("push", testdata(t, "push_branch"), acmeSecret))
	id := w.Header().Get(HeaderDelivery)
	d, err := h.Replay(t.Context(), id, "")
	if err != nil || d.Status != inbox.Known || d.Build != 1 {
		t.Errorf("replayed: %+v, %v", d, err)
	}
	for range 2 { // the answer to the first was lost
		if d, err = h.Replay(t.Context(), id, "word"); err != nil || d.Build != 2 {
			t.Errorf("replayed anew: %+v, %v", d, err)
		}
	}
	made, _ := log.now().Build(2)
	if log.builds() != 2 || made.RetryOf != 1 || made.Commit.Author != "otter" {
		t.Errorf("%d builds; the second is %+v", log.builds(), made)
	}
	if kept, _, err := b.Find(id); err != nil || kept.Replays != 3 {
		t.Errorf("kept %+v, %v", kept, err)
	}
	log.setFault(func(fsm.Command) error { return ErrNotLeader })
	if d, err = h.Replay(t.Context(), id, ""); err != nil || d.Status != inbox.Waiting {
		t.Errorf("without a leader: %+v, %v", d, err)
	}
	if kept, _, err := b.Find(id); err != nil || kept.Status != inbox.Accepted || kept.Replays != 4 {
		t.Errorf("a replay that came to nothing leaves %+v, %v", kept, err)
	}
	if _, err := h.Replay(t.Context(), "0123456789ABCDEF", ""); !errors.Is(err, inbox.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	sent(h, delivery("push", testdata(t, "push_branch"), otherSecret))
	all, err := b.List(inbox.Filter{Status: inbox.Refused})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if _, err := h.Replay(t.Context(), all[0].ID, "word"); !errors.Is(err, inbox.ErrUnverified) || log.builds() != 2 {
		t.Errorf("a stranger's: %v, %d builds", err, log.builds())
	}
}

// TestDeskTrustsNoNode hands in what no webhook would bring.
func TestDeskTrustsNoNode(t *testing.T) {
	log := newFakeLog()
	q := atDesk(log)
	c := someCommit(1)
	c.CloneURL = "ext::sh -c id"
	if _, err := q.Publish(t.Context(), c, ""); !errors.Is(err, ErrBadCommit) || log.builds() != 0 {
		t.Errorf("%v, %d builds", err, log.builds())
	}
	if err := q.Forget(t.Context(), Deletion{Repo: "acme/api", Branch: "--all"}, ""); !errors.Is(err, ErrBadCommit) {
		t.Error(err)
	}
}
