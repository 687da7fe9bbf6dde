package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Health is how the bucket stands. Err is nil while it can be used.
type Health struct {
	Err   error
	Since time.Time // when it was first seen down
}

// Health tells how the bucket stood when it was last used.
func (b *Bucket) Health() Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Health{Err: b.failed, Since: b.since}
}

// Changed gives a channel that is closed when the bucket goes down, or is back.
func (b *Bucket) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change
}

const longestWait = time.Minute

// fail notes that the bucket can't be used.
func (b *Bucket) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.failed == nil
	if first {
		b.since, b.wait = time.Now(), 0
		close(b.change)
		b.change = make(chan struct{})
	}
	b.failed = err
	b.wait = min(max(2*b.wait, b.cfg.Retry), longestWait)
	b.until = time.Now().Add(b.wait)
	if first {
		b.cfg.Log.Warn("the bucket can't be used: what is to go there stays on its node until it can", "bucket", b.String(), "error", err)
	}
}

// gate is ErrDown while it is not yet known whether a bucket that failed is back.
func (b *Bucket) gate() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		return nil
	}
	return fmt.Errorf("%w, since %s: %w", ErrDown, b.since.UTC().Format(time.RFC3339), b.failed)
}

// Run asks a bucket that has failed whether it is back, until ctx ends.
func (b *Bucket) Run(ctx context.Context) error {
	for {
		b.mu.Lock()
		down, until, change := b.failed != nil, b.until, b.change
		b.mu.Unlock()
		if !down {
			select {
			case <-change:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		b.again(ctx)
	}
}

// again tries the bucket once more.
func (b *Bucket) again(ctx context.Context) {
	err := b.try(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		b.fail(err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg.Log.Info("the bucket can be used again", "bucket", b.String(), "down_for", time.Since(b.since).Round(time.Second))
	b.failed = nil
	close(b.change)
	b.change = make(chan struct{})
}

// judge notes what an answer says of the bucket: that an object is missing, or that the
// caller gave up, says nothing.
func (b *Bucket) judge(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotFound) {
		b.fail(err)
	}
}
