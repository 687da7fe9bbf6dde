package agent

import (
	"context"
	"errors"
	"time"

	"github.com/codepr/narwhal/inbox"
)

const (
	maxReason = 300 // bytes of an outcome's reason
	// settleWithin is how old a delivery may be that is handed in without anybody's
	// asking: what it tells is old news after that.
	settleWithin = 24 * time.Hour
	settlePause  = time.Second // between two passes over those that wait, at first
	settleRest   = 30 * time.Second
)

// handIn has the queue take what a verified delivery brings, and says what became of
// it. The error is why there is no 2xx for it. With again, the commit is built though it
// was before.
func (h *Hooks) handIn(ctx context.Context, d *inbox.Delivery, body []byte, again string) (inbox.Outcome, error) {
	v, err := h.read(d, body)
	if err == nil {
		err = v.check(h.config.Protocols)
	}
	switch {
	case err != nil:
		return outcomeOf(err), err
	case v.ignored != "":
		return inbox.Outcome{Status: inbox.Ignored, Reason: v.ignored}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handInWithin)
	defer cancel()
	o := inbox.Outcome{Status: inbox.Accepted}
	if v.deleted != nil {
		o.Key, o.Reason = v.deleted.Key(), "the push deleted branch "+v.deleted.Branch
		err = h.queue.Forget(ctx, *v.deleted, d.ForgeID)
	} else {
		o.Key = v.commit.Key()
		var receipt Receipt
		if again == "" {
			receipt, err = h.queue.Publish(ctx, v.commit, d.ForgeID)
		} else {
			receipt, err = h.record.Again(ctx, v.commit, again)
		}
		if o.Build = receipt.Build; receipt.Known {
			o.Status = inbox.Known
		}
	}
	if err != nil {
		key := o.Key
		o = outcomeOf(err)
		o.Key = key
	}
	return o, err
}

// outcomeOf tells what is refused for good from what is tried again.
func outcomeOf(err error) inbox.Outcome {
	o := inbox.Outcome{Status: inbox.Waiting, Reason: line(err.Error(), maxReason)}
	var refused *refusal
	if errors.As(err, &refused) || errors.Is(err, ErrBadCommit) {
		o.Status = inbox.Refused
	}
	return o
}

func (h *Hooks) settle(d *inbox.Delivery, o inbox.Outcome) (written bool) {
	if h.record.Inbox == nil {
		return true
	}
	err := h.record.Inbox.Settle(d.ID, o)
	if err != nil {
		h.logOf(d).Error("what became of a webhook could not be written down: it is handed in again", "error", err)
	}
	return err == nil
}

// Run hands in what a crash cut off, and what no leader could be reached for, until ctx
// ends.
func (h *Hooks) Run(ctx context.Context) error {
	if h.record.Inbox == nil {
		<-ctx.Done()
		return nil
	}
	pause := settlePause
	for {
		left, err := h.settleAll(ctx)
		if err != nil && ctx.Err() == nil {
			h.log.Error("webhooks that wait could not be read", "error", err)
			left = true
		}
		wakes := h.record.Inbox.Wakes()
		var again <-chan time.Time
		if left {
			wakes, again = nil, time.After(pause)
			pause = min(2*pause, settleRest)
		} else {
			pause = settlePause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wakes:
		case <-again:
		}
	}
}

// settleAll hands in, oldest first, all that waits; left says that some still does.
func (h *Hooks) settleAll(ctx context.Context) (left bool, err error) {
	last := ""
	for ctx.Err() == nil {
		d, body, ok, err := h.record.Inbox.Waiting(last)
		if err != nil || !ok {
			return left, err
		}
		last = d.ID
		log := h.logOf(&d).With("repo", d.Repo, "age", time.Since(d.At).Round(time.Second))
		o := inbox.Outcome{Status: inbox.Failed, Reason: "no leader could be reached for a day: replay it if it is still wanted"}
		if time.Since(d.At) < settleWithin {
			o, err = h.handIn(ctx, &d, body, "")
		}
		if !h.settle(&d, o) {
			left = true
		}
		switch o.Status {
		case inbox.Waiting:
			left = true
			log.Warn("webhook not handed in yet", "error", err)
		case inbox.Failed:
			log.Warn("webhook not handed in", "reason", o.Reason)
		default:
			log.Info("webhook that waited is handed in", "outcome", o.Status, "build", o.Build, "reason", o.Reason)
		}
	}
	return true, nil
}

// Replay hands a delivery in once more: its commit is known then, and made no second
// build. With again, which names the asking, it is built anew; the same word makes one
// build. The error is inbox.ErrNotFound, inbox.ErrUnverified, or the inbox's; what else
// went wrong is the delivery's outcome.
func (h *Hooks) Replay(ctx context.Context, id, again string) (inbox.Delivery, error) {
	d, body, err := h.record.Inbox.Find(id)
	if err != nil {
		return d, err
	}
	if !d.Verified {
		return d, inbox.ErrUnverified
	}
	o, err := h.handIn(ctx, &d, body, again)
	h.logOf(&d).Info("webhook replayed", "repo", d.Repo, "outcome", o.Status, "build", o.Build, "anew", again != "", "error", err)
	if err := h.record.Inbox.Replayed(id, o); err != nil {
		return d, err
	}
	if d, _, err = h.record.Inbox.Find(id); err != nil {
		return d, err
	}
	d.Outcome = o // also where it is not what the delivery itself has made
	return d, nil
}
