package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

const patientHeartbeat = 1500 * time.Millisecond

// TestPartitions cuts roads between three nodes that each have a network namespace.
func TestPartitions(t *testing.T) {
	t.Parallel()
	w, err := lab.NewNetwork(deadline(t, patience), 3)
	must(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	// Elections that a busy machine causes would look like those that a cut does.
	l := cluster(t, lab.Options{Args: slices.Concat(quick, []string{"--heartbeat", patientHeartbeat.String()}), Network: w})
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *lab.Lab)
	}{
		{"the leader alone", leaderAlone},
		{"a node that finishes alone", finishesAlone},
		{"a job that may not run twice", exclusiveAlone},
		{"a follower that hears nothing", deafFollower},
		{"a leader that hears one of two", halfDeafLeader},
		{"a road that comes and goes", flapping},
		{"a tenth of all packets lost", func(t *testing.T, l *lab.Lab) { lossy(t, l, 0.1) }},
		{"three tenths of all packets lost", func(t *testing.T, l *lab.Lab) { lossy(t, l, 0.3) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.run(t, l)
			must(t, l.Heal(deadline(t, patience)))
			settle(t, l)
			wantBuilds(t, l, allBuilds(t, nodeClient(t, leader(t, l))))
		})
	}
}

// another waits until the nodes but old have a leader among them.
func another(t *testing.T, l *lab.Lab, old *lab.Node) (next *lab.Node) {
	t.Helper()
	await(t, "another leader", func(ctx context.Context) (bool, error) {
		for _, n := range l.Nodes {
			if n == old {
				continue
			}
			s, err := nodeClient(t, n).Status(ctx)
			if err != nil || s.Leader == nil || s.Leader.ID != n.ID {
				continue
			}
			next = n
			return true, nil
		}
		return false, errors.New("none leads")
	})
	return next
}

// passes has a build made and run by way of a node, and gives the term that it ran in.
func passes(t *testing.T, n *lab.Node) (term uint64) {
	t.Helper()
	c, r := nodeClient(t, n), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, small+"steps: [{command: \"true\"}]\n")).ID)
	wantStatus(t, b, fsm.Passed)
	line, err := c.Timeline(deadline(t, patience), b.ID)
	must(t, err)
	return line.Moments[len(line.Moments)-1].Term
}

// leaderAlone: the majority goes on; the minority refuses writes and says why, and still
// answers reads. Its job runs on, and again elsewhere, until it hears of that.
func leaderAlone(t *testing.T, l *lab.Lab) {
	old := leader(t, l)
	h := hold(t, l, old)
	must(t, l.Isolate(deadline(t, patience), old))
	next := another(t, l, old)
	passes(t, next)

	alone, r := nodeClient(t, old), repository(t)
	sha := commit(t, r, small+"steps: [{command: \"true\"}]\n")
	await(t, "the old leader to know that it is none", func(ctx context.Context) (bool, error) {
		s, err := alone.Status(ctx)
		return err == nil && s.Leader == nil, fmt.Errorf("%+v, %w", s.Leader, err)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := create(ctx, alone, r, sha, client.NewKey())
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Code != api.CodeNoLeader {
		t.Errorf("a write in the minority: build %d, %v; want 503 no_leader", b.ID, err)
	}
	if b, err := alone.Build(deadline(t, patience), h.build); err != nil || b.ID != h.build {
		t.Errorf("a read in the minority: %v", err)
	}
	h.begun(t, 2)
	pid := h.begun(t, 1)
	if gone(t, pid) {
		t.Error("the job on the node that is cut off has noticed")
	}
	must(t, l.Heal(deadline(t, patience)))
	await(t, "the superseded attempt to be stopped", func(context.Context) (bool, error) { return gone(t, pid), nil })
	h.release(t)
	again := held{client: nodeClient(t, next), build: h.build, ran: h.ran}
	again.wantSecondAttempt(t, old)
}

// finishesAlone: a job's end on a node that is cut off for a moment is handed in later.
func finishesAlone(t *testing.T, l *lab.Lab) {
	n := follower(t, l)
	h := hold(t, l, n)
	must(t, l.Isolate(deadline(t, patience), n))
	h.release(t)
	await(t, "the job to end", func(context.Context) (bool, error) { return h.ran.count(t, "1 ends") == 1, nil })
	must(t, l.Heal(deadline(t, patience)))
	b := ended(t, nodeClient(t, leader(t, l)), h.build)
	wantStatus(t, b, fsm.Passed)
	if a := job(t, b, "build").Attempts; len(a) != 1 {
		t.Errorf("it took %d attempts: %s", len(a), outline(b))
	}
}

// exclusiveAlone: a job that may not run twice fails with its node, and does not.
func exclusiveAlone(t *testing.T, l *lab.Lab) {
	n := follower(t, l)
	c, r, ran := nodeClient(t, leader(t, l)), repository(t), newLedger(t)
	sha := commit(t, r, small+"on_node_loss: fail\n"+ran.file("steps: [{command: 'echo begins >> LEDGER; sleep 300'}]\n"))
	var b api.Build
	only(t, l, n, func() {
		b = trigger(t, c, r, sha)
		await(t, "the job to begin", func(context.Context) (bool, error) { return ran.count(t, "begins") == 1, nil })
	})
	must(t, l.Isolate(deadline(t, patience), n))
	b = ended(t, nodeClient(t, leader(t, l)), b.ID)
	wantStatus(t, b, fsm.Errored)
	if j := job(t, b, "build"); j.Cause != fsm.CauseNodeLost || len(j.Attempts) != 1 {
		t.Errorf("it ended as %s", outline(b))
	}
	must(t, l.Heal(deadline(t, patience)))
	passes(t, n)
	if got := ran.lines(t); !slices.Equal(got, []string{"begins"}) {
		t.Errorf("its step wrote %q", got)
	}
}

// deafFollower hears nothing of the others, who hear it: it elects nobody, and the
// leader stays.
func deafFollower(t *testing.T, l *lab.Lab) {
	led, deaf := leader(t, l), follower(t, l)
	before := passes(t, led)
	for _, n := range l.Nodes {
		if n != deaf {
			must(t, l.Drop(deadline(t, patience), n, deaf))
		}
	}
	lasts(t, func() {
		if after := passes(t, led); after != before {
			t.Errorf("the term went from %d to %d", before, after)
		}
	})
}

// halfDeafLeader hears one of its two followers, who both hear it: it goes on to lead.
func halfDeafLeader(t *testing.T, l *lab.Lab) {
	led, mute := leader(t, l), follower(t, l)
	before := passes(t, led)
	must(t, l.Drop(deadline(t, patience), mute, led))
	lasts(t, func() {
		if after := passes(t, led); after != before {
			t.Errorf("the term went from %d to %d", before, after)
		}
	})
}

// lasts has do done over and over, for as long as many elections would take.
func lasts(t *testing.T, do func()) {
	t.Helper()
	for until := time.Now().Add(8 * patientHeartbeat); time.Now().Before(until) && !t.Failed(); {
		do()
	}
}

// flapping: a follower whose road comes and goes costs no builds, and few elections.
func flapping(t *testing.T, l *lab.Lab) {
	led, n := leader(t, l), follower(t, l)
	before := passes(t, led)
	for range 5 {
		must(t, l.Isolate(deadline(t, patience), n))
		time.Sleep(patientHeartbeat * 4 / 3) // an election's time and more
		must(t, l.Heal(deadline(t, patience)))
		passes(t, led)
	}
	if after := passes(t, led); after > before+2 {
		t.Errorf("the term went from %d to %d in five cuts", before, after)
	}
}

// lossy: builds come in while packets are lost, and each ends once. Nodes may count as
// lost by it and their jobs run again, twice at most, but no attempt is run twice.
func lossy(t *testing.T, l *lab.Lab, share float64) {
	r, ran := repository(t), newLedger(t)
	sha := commit(t, r, small+ran.file("steps: [{command: 'echo $NARWHAL_BUILD $NARWHAL_ATTEMPT >> LEDGER'}]\n"))
	c := anyNode(t, l)
	must(t, l.Lose(deadline(t, patience), share))
	ids := make([]fsm.BuildID, 20)
	must(t, createAll(deadline(t, patience), c, r, sha, ids))
	if unique := slices.Compact(slices.Sorted(slices.Values(ids))); len(unique) != len(ids) {
		t.Errorf("two requests made one build: %v", ids)
	}
	for _, id := range ids {
		b := ended(t, c, id)
		if j := job(t, b, "build"); j.Cause != fsm.CauseNodeLost || len(j.Attempts) != 2 { // quarantined
			wantStatus(t, b, fsm.Passed)
		}
		for _, a := range job(t, b, "build").Attempts {
			if n := ran.count(t, fmt.Sprintf("%d %d", id, a.N)); n > 1 || n == 0 && a.Status == fsm.Passed {
				t.Errorf("attempt %d of build %d ran %d times: %s", a.N, id, n, outline(b))
			}
		}
	}
}
