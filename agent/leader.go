package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/codepr/narwhal/fsm"
)

// LeaderQueue is the queue of a node where there is no RabbitMQ: whoever leads takes
// commits into the replicated log, at its Desk.
type LeaderQueue struct {
	// Call carries a call to the leader's Desk, and brings the answer. It tries again
	// while leadership changes, until ctx ends.
	Call func(ctx context.Context, call, answer any) error
}

// deskCall is a message for the leader. Again is set where the commit is to be built
// though it was before, and makes one build, however often it comes.
type deskCall struct {
	message
	Again string `json:"again,omitempty"`
}

// deskAnswer is what came of a call; Bad is why the commit is not acceptable.
type deskAnswer struct {
	Build fsm.BuildID `json:"build,omitempty"`
	Known bool        `json:"known,omitempty"`
	Bad   string      `json:"bad,omitempty"`
}

// Publish implements Queue.
func (q LeaderQueue) Publish(ctx context.Context, c fsm.Commit, delivery string) (Receipt, error) {
	return q.call(ctx, deskCall{message: message{Version: commitVersion, Commit: c, Delivery: delivery}})
}

// Forget implements Queue.
func (q LeaderQueue) Forget(ctx context.Context, d Deletion, delivery string) error {
	_, err := q.call(ctx, deskCall{message: message{Version: deletionVersion, Deleted: &d, Delivery: delivery}})
	return err
}

// Again has a commit built though it was before; see Record.
func (q LeaderQueue) Again(ctx context.Context, c fsm.Commit, key string) (Receipt, error) {
	return q.call(ctx, deskCall{message: message{Version: commitVersion, Commit: c}, Again: key})
}

func (q LeaderQueue) call(ctx context.Context, call deskCall) (Receipt, error) {
	var a deskAnswer
	if err := q.Call(ctx, call, &a); err != nil {
		return Receipt{}, fmt.Errorf("%w: hand %s to the leader: %w", ErrUnavailable, call.key(), err)
	}
	if a.Bad != "" {
		return Receipt{}, fmt.Errorf("%w: the leader refused it: %s", ErrBadCommit, a.Bad)
	}
	return Receipt{Build: a.Build, Known: a.Known}, nil
}

// Desk takes what other nodes hand to the leader, by POST. It is served to nodes of the
// cluster only. It answers 503 where this node does not lead.
type Desk struct {
	Proposer  Proposer
	Overtaken Overtaken
	// Made finds the build that a key has made.
	Made func(key string) (fsm.BuildID, bool)
	Log  *slog.Logger
}

// ServeHTTP implements http.Handler.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var call deskCall
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessageBody)).Decode(&call)
	if err == nil {
		err = call.check()
	}
	if err != nil {
		writeJSON(w, http.StatusOK, deskAnswer{Bad: err.Error()})
		return
	}
	receipt, err := d.take(r.Context(), &call)
	switch {
	case errors.Is(err, ErrBadCommit):
		writeJSON(w, http.StatusOK, deskAnswer{Bad: err.Error()})
	case err != nil:
		d.Log.Warn("a commit that another node handed in was not taken", "key", call.key(), "repo", call.repo(), "error", err)
		writeJSON(w, http.StatusServiceUnavailable, problem{Title: "not taken", Status: http.StatusServiceUnavailable, Detail: err.Error()})
	default:
		writeJSON(w, http.StatusOK, deskAnswer{Build: receipt.Build, Known: receipt.Known})
	}
}

func (d *Desk) take(ctx context.Context, call *deskCall) (Receipt, error) {
	log := LogQueue{Proposer: d.Proposer, Overtaken: d.Overtaken}
	if call.Deleted != nil {
		return Receipt{}, log.Forget(ctx, *call.Deleted, call.Delivery)
	}
	if call.Again == "" {
		return log.Publish(ctx, call.Commit, call.Delivery)
	}
	made, _ := d.Made(call.Commit.Key()) // none: then it is no retry of any
	return log.propose(ctx, &fsm.AddBuild{Key: "replay:" + call.Again, Commit: call.Commit, RetryOf: made})
}
