package supervise

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Decision is a person's word on the manual steps of a name.
type Decision struct {
	Step    string `json:"step"`
	Approve bool   `json:"approve"`
	By      string `json:"by,omitempty"`
	// Key opens the step's Lock. A job can reach its own control socket, and is not
	// to approve its own steps.
	Key string `json:"key,omitempty"`
}

// Lock is what only key opens.
func Lock(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Desk is where decisions are handed in. They may come before the step's turn; the
// first one on a step counts.
type Desk struct {
	mu      sync.Mutex
	decided []Decision
	changed chan struct{} // closed with the next decision
}

// NewDesk makes one.
func NewDesk() *Desk { return &Desk{changed: make(chan struct{})} }

// Decide hands a decision in.
func (d *Desk) Decide(word Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.ContainsFunc(d.decided, func(old Decision) bool { return old.Step == word.Step }) {
		return
	}
	d.decided = append(d.decided, word)
	close(d.changed)
	d.changed = make(chan struct{})
}

// on gives the decision on a step; what is closed when there may be one otherwise.
func (d *Desk) on(step string) (word Decision, ok bool, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, word := range d.decided {
		if word.Step == step {
			return word, true, nil
		}
	}
	return Decision{}, false, d.changed
}

// names are the steps that have been decided on.
func (d *Desk) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, word := range d.decided {
		names = append(names, word.Step)
	}
	return names
}

// AskDecide hands a decision to the supervisor behind the socket. Doing so again
// changes nothing.
func AskDecide(ctx context.Context, socket string, word Decision) error {
	answer, err := ask(ctx, socket, question{Decide: &word})
	if err == nil && !slices.Contains(answer.Decided, word.Step) {
		err = errors.New("ask supervisor: it does not take the decision")
	}
	return err
}

// decide takes a decision from the control socket, which the job has too.
func (r *run) decide(word Decision) {
	for i := range r.task.Steps {
		step := &r.task.Steps[i]
		if step.Manual && step.Name == word.Step && (!word.Approve || opens(word.Key, step.Lock)) {
			r.task.Desk.Decide(word)
			return
		}
	}
}

func opens(key, lock string) bool {
	return lock == "" || subtle.ConstantTimeCompare([]byte(Lock(key)), []byte(lock)) == 1
}

// await waits for a person, where the step wants one. Its ending is one of Passed
// where the step may go on.
func (r *run) await(ctx context.Context, i int) ending {
	step := &r.task.Steps[i]
	if !step.Manual {
		return ending{status: fsm.Passed}
	}
	word, ok, changed := r.task.Desk.on(step.Name)
	if !ok {
		r.log.Printf("step %s waits for a person: %s, or reject", step.Name, fsm.Approval(r.task.Job, step.Name))
		if err := r.journal.Append(Record{Kind: RecordWait, Step: i}); err != nil {
			return broken("%v", err)
		}
		began := time.Now()
		for ; !ok; word, ok, changed = r.task.Desk.on(step.Name) {
			select {
			case <-changed:
			case <-ctx.Done():
				return stopped(ctx)
			}
		}
		if err := r.journal.Append(Record{Kind: RecordGo, Step: i}); err != nil {
			return broken("%v", err)
		}
		r.log.Printf("step %s has waited %s for a person", step.Name, time.Since(began).Round(time.Second))
	}
	if !word.Approve {
		return ending{status: fsm.Failed, cause: fsm.CauseRejected, message: "rejected by " + clip(word.By)}
	}
	r.log.Printf("step %s was approved by %s", step.Name, clip(word.By))
	return ending{status: fsm.Passed}
}

// WaitingSteps are the places of the steps that wait for a person, as the journal
// tells.
func WaitingSteps(records []Record) []int {
	var waiting []int
	for _, r := range records {
		switch r.Kind {
		case RecordWait:
			if !slices.Contains(waiting, r.Step) {
				waiting = append(waiting, r.Step)
			}
		case RecordGo, RecordStep:
			waiting = slices.DeleteFunc(waiting, func(i int) bool { return i == r.Step })
		case RecordEnd:
			waiting = nil
		}
	}
	slices.Sort(waiting)
	return waiting
}
