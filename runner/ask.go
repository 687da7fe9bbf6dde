package runner

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// lookEvery is how often the journal of a job with manual steps is looked at.
const lookEvery = 500 * time.Millisecond

func asksPeople(spec *pipeline.Job) bool {
	return slices.ContainsFunc(spec.Steps, func(s pipeline.Step) bool { return s.When.Manual })
}

// pass gives the attempts that are here what people have decided, under Runner.mu.
func (r *Runner) pass() {
	if r.wanted == nil {
		return
	}
	for _, w := range r.wanted.Attempts {
		if a := r.attempts[w.Ref]; a != nil && len(w.Decisions) > len(a.decisions) {
			a.decisions = w.Decisions
			token(a.asks)
		}
	}
}

// ask tells the leader which steps wait for a person, and the job what people say,
// until ctx ends. A job that was adopted hears all of it again.
func (r *Runner) ask(ctx context.Context, a *attempt, t executor.Task, run executor.Run) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var told []string
	handed := 0
	for {
		told = r.tellWaiting(a, t, told)
		handed = r.hand(ctx, a, t, run, handed)
		select {
		case <-ctx.Done():
			return
		case <-a.asks:
		case <-look.C:
		}
	}
}

// tellWaiting reports what has changed since told. One report is on its way at a time:
// two could overtake each other.
func (r *Runner) tellWaiting(a *attempt, t executor.Task, told []string) []string {
	now, err := t.Waiting()
	if err != nil {
		r.log.Warn("look for steps that wait", "attempt", a.ref.String(), "error", err)
		return told
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(now, told) || a.state != running || r.out.tells(a.ref) {
		return told
	}
	r.out.put(link.Report{Ref: a.ref, Started: true, Waiting: now})
	return now
}

// hand gives the job the decisions after the first n, and says how many it has then:
// what could not be handed in is tried again.
func (r *Runner) hand(ctx context.Context, a *attempt, t executor.Task, run executor.Run, n int) int {
	r.mu.Lock()
	decisions := a.decisions
	r.mu.Unlock()
	for _, d := range decisions[n:] {
		word := executor.Decision{Step: d.Step, Approve: d.Approve, By: d.By}
		if d.Approve {
			word.Key = t.Approvals[d.Step]
		}
		if err := run.Decide(ctx, word); err != nil {
			r.log.Debug("hand decision to attempt, trying again", "attempt", a.ref.String(), "step", d.Step, "error", err)
			break
		}
		n++
	}
	return n
}

// approvals are the keys to an attempt's manual steps. They are the same after a
// restart, and none tells of another.
func (r *Runner) approvals(ref fsm.AttemptRef, spec *pipeline.Job) map[string]string {
	if spec == nil || !asksPeople(spec) {
		return nil
	}
	keys := make(map[string]string)
	for i := range spec.Steps {
		if s := &spec.Steps[i]; s.When.Manual {
			mac := hmac.New(sha256.New, r.approvalKey)
			fmt.Fprintf(mac, "%s %s %s", ref, ref.Token, s.Name)
			keys[s.Name] = hex.EncodeToString(mac.Sum(nil))
		}
	}
	return keys
}

const approvalKeySize = 32

// readApprovalKey gives the node's secret behind approvals, and makes it the first time.
func readApprovalKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "approvals.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == approvalKeySize {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read key of approvals: %w", err)
	}
	key = make([]byte, approvalKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make key of approvals: %w", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep key of approvals: %w", err)
	}
	return key, nil
}
