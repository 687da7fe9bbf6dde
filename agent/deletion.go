package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Deletion is the news that a branch is there no more.
type Deletion struct {
	Repo   string `json:"repo"`
	Branch string `json:"branch"`
	// Head is the SHA that the branch had last; empty where the forge doesn't say.
	Head string `json:"head,omitempty"`
}

// Key is its identity in the commit queue.
func (d Deletion) Key() string {
	sum := sha256.Sum256([]byte(d.Repo + "\x00" + d.Branch + "\x00" + d.Head))
	return "deletion-" + hex.EncodeToString(sum[:16])
}

// CheckDeletion holds a deletion from outside to the rules of CheckCommit.
func CheckDeletion(d Deletion) error {
	if err := checkRepo(d.Repo); err != nil {
		return err
	}
	if err := checkRef("branch", "refs/heads/"+d.Branch); err != nil {
		return err
	}
	if d.Head != "" {
		return checkSHA(d.Head)
	}
	return nil
}

// Overtaken reports whether a deletion is old news: the branch has been pushed again
// since. A redelivery may come at any time.
type Overtaken func(Deletion) bool

// forget has the schedules of a branch that was deleted dropped from the replicated
// state; that there are none is no error. dropped is false where it is old news.
func forget(ctx context.Context, p Proposer, old Overtaken, d Deletion) (dropped bool, err error) {
	if old(d) {
		return false, nil
	}
	drop := &fsm.DropSchedules{Repo: d.Repo, Branch: d.Branch, By: fsm.ByWebhook, Pending: true}
	result, err := p.Propose(ctx, fsm.Command{At: time.Now().UTC(), DropSchedules: drop})
	if err == nil {
		err = result.Err
	}
	return err == nil, err
}

// Forget implements Queue.
func (q LogQueue) Forget(ctx context.Context, d Deletion, _ string) error {
	_, err := forget(ctx, q.Proposer, q.Overtaken, d)
	if err != nil {
		return fmt.Errorf("%w: propose that %s has no branch %s: %w", ErrUnavailable, d.Repo, d.Branch, err)
	}
	return nil
}
