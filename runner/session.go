package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

var (
	errSilent = errors.New("the leader doesn't answer beats")
	errResync = errors.New("the leader wants an attempt that it has not described")
)

// silence is how many beats may go without an answer before another stream is
// tried.
const silence = 3

// session is this node's side of one stream.
func (r *Runner) session(ctx context.Context, s link.NodeStream) error {
	hello := r.hello()
	r.lease.forget()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		s.Close()
		return nil
	})
	g.Go(func() error { return r.receive(ctx, s) })
	g.Go(func() error {
		err := r.send(ctx, s, hello)
		if errors.Is(err, io.EOF) {
			return nil // why the stream broke is what Recv returns
		}
		return err
	})
	return g.Wait()
}

// hello says all that is on this node's disk. What an earlier stream has asked
// for is void from here on: the leader goes by this list.
func (r *Runner) hello() *link.Hello {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted, r.works = nil, map[fsm.AttemptRef]*link.Work{}
	select {
	case <-r.resync:
	default:
	}
	h := &link.Hello{
		Node: r.cfg.Node, Runs: []fsm.AttemptRef{}, Have: r.cfg.Checkout.Have(), Images: r.images.list(), DiskFull: r.disk.Full(),
	}
	h.Runs = append(h.Runs, sortedRefs(r.attempts)...)
	return h
}

// send sends the hello, beats, and reports as soon as there are any.
func (r *Runner) send(ctx context.Context, s link.NodeStream, hello *link.Hello) error {
	beats := time.NewTicker(r.cfg.Beat)
	defer beats.Stop()
	have, images := hello.Have, hello.Images
	if err := s.Send(&link.Up{Hello: hello}); err != nil { // alone: the leader answers it first
		return fmt.Errorf("send hello to leader: %w", err)
	}
	up := &link.Up{Beat: r.beat()}
	for last := uint64(0); ; {
		if up.Reports = r.out.after(last); len(up.Reports) > 0 {
			last = up.Reports[len(up.Reports)-1].ID
		}
		if up.Beat != nil || len(up.Reports) > 0 {
			if err := s.Send(up); err != nil {
				return fmt.Errorf("send to leader: %w", err)
			}
		}
		more := len(up.Reports) > 0
		up = &link.Up{}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.out.wake:
		case <-r.resync:
			return errResync
		case <-beats.C:
			if r.lease.waiting(time.Now()) >= silence*r.cfg.Beat {
				return errSilent
			}
			now := r.cfg.Checkout.Have()
			up.Beat = r.beat()
			if !slices.Equal(now, have) {
				have, up.Beat.Have = now, now
			}
			if now := r.images.list(); !slices.Equal(now, images) {
				images, up.Beat.Images = now, now
			}
		}
	}
}

func (r *Runner) beat() *link.Beat {
	load := r.cfg.Load()
	load.Running, load.DiskFull = r.Running(), r.disk.Full()
	return &link.Beat{Seq: r.lease.beat(time.Now()), Load: load}
}

// receive takes what the leader says until the stream ends.
func (r *Runner) receive(ctx context.Context, s link.NodeStream) error {
	for ctx.Err() == nil {
		down, err := s.Recv()
		if err != nil {
			return err
		}
		if down.Refused != "" {
			return fmt.Errorf("%w by the leader: %s", link.ErrRefused, down.Refused)
		}
		if down.Beat > 0 {
			r.lease.ack(down.Beat)
		}
		if err := r.acknowledged(down.Acks); err != nil {
			return err
		}
		if down.Desired != nil {
			r.want(*down.Desired)
		}
	}
	return ctx.Err()
}

// want takes the leader's newest wish, and keeps what to run: that is sent only
// the first time.
func (r *Runner) want(w link.Wanted) {
	r.mu.Lock()
	if r.wanted != nil && w.Index < r.wanted.Index {
		r.mu.Unlock()
		return
	}
	works := map[fsm.AttemptRef]*link.Work{}
	for i := range w.Attempts {
		a := &w.Attempts[i]
		if a.Work == nil {
			a.Work = r.works[a.Ref]
		}
		if a.Work != nil && r.attempts[a.Ref] == nil {
			works[a.Ref] = a.Work
		}
	}
	r.wanted, r.works = &w, works
	r.mu.Unlock()
	r.answered.Do(func() { close(r.greeted) })
	r.nudge()
}

// acknowledged closes what the leader has taken, or refused as stale.
func (r *Runner) acknowledged(acks []link.Ack) error {
	for _, ack := range acks {
		report, ok := r.out.take(ack.ID)
		if !ok {
			continue
		}
		if ack.Stale {
			r.log.Info("report refused: the attempt has been superseded", "attempt", report.Ref.String())
		}
		if err := r.answeredReport(report, ack.Stale); err != nil {
			return err
		}
	}
	if r.out.empty() {
		r.nudge() // a farewell may be waiting for it
	}
	return nil
}

func (r *Runner) answeredReport(report link.Report, stale bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempts[report.Ref]
	switch {
	case a == nil:
	case a.state == ended && stale:
		// A leader that refuses a result and goes on wanting the attempt is
		// told that it is gone.
		r.out.drop(a.ref)
		r.bury(a.ref, dropped)
		return r.ledger.note(record{Closed: &closing{Ref: a.ref, Dropped: true}})
	case a.state == ended && report.Outcome != nil:
		r.bury(a.ref, closed)
		return r.ledger.note(record{Closed: &closing{Ref: a.ref}})
	case stale && a.state.alive():
		a.halt(aborting, r.cfg.Grace)
	}
	return nil
}
