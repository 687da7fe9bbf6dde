package blob

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/codepr/narwhal/fsm"
)

// Path gives the blob's file, to be read only. Where it is not here, or not with
// the blob's size (zero for any), it is fetched from one of its holders; callers
// that want the same one share the transfer. Pin the blob where the file is needed
// for longer than Config.Floor.
func (s *Store) Path(ctx context.Context, b fsm.Blob) (string, error) {
	if b.Size > 0 {
		if err := s.measure(b); err != nil {
			return "", err
		}
	}
	for {
		err := s.here(b.Digest)
		if err == nil {
			return s.path(b.Digest), nil
		}
		if !digestPattern.MatchString(b.Digest) {
			return "", err
		}
		ch := s.fetch.DoChan(b.Digest, func() (any, error) { return nil, s.bring(ctx, b.Digest, b.Holders) })
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case r := <-ch:
			if errors.Is(r.Err, errGaveUp) {
				if err := ctx.Err(); err != nil {
					return "", err
				}
				continue // another caller's context it was that ended
			}
			if r.Err != nil {
				return "", r.Err
			}
		}
	}
}

// measure drops a file that is not as long as it was.
func (s *Store) measure(b fsm.Blob) error {
	if !digestPattern.MatchString(b.Digest) {
		return nil
	}
	info, err := os.Lstat(s.path(b.Digest))
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == b.Size {
		return nil
	}
	if err != nil {
		return fmt.Errorf("measure blob: %w", err)
	}
	s.log.Warn("drop blob: it has another size on this disk", "digest", b.Digest, "has", info.Size(), "wants", b.Size)
	return s.Remove(b.Digest)
}

var errGaveUp = errors.New("the caller whose transfer it was gave up")

func (s *Store) bring(ctx context.Context, digest string, holders []fsm.NodeID) error {
	if s.cfg.Fetch == nil || len(holders) == 0 {
		return fmt.Errorf("blob %s: %w, and no other node is known to hold it", digest, ErrNotFound)
	}
	var errs []error
	gone := true
	if s.cfg.Near != nil {
		holders = s.cfg.Near(holders)
	}
	for _, node := range holders {
		err := s.bringFrom(ctx, node, digest)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errGaveUp
		}
		gone = gone && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt))
		from := "from node "
		if node.IsBucket() {
			from = "from "
		}
		errs = append(errs, fmt.Errorf("%s%s: %w", from, node, err))
	}
	if gone {
		return fmt.Errorf("fetch blob %s: %w: %w", digest, ErrGone, errors.Join(errs...))
	}
	return fmt.Errorf("fetch blob %s: %w: %w", digest, ErrUnreachable, errors.Join(errs...))
}

func (s *Store) bringFrom(ctx context.Context, node fsm.NodeID, digest string) error {
	body, err := s.cfg.Fetch(ctx, node, digest)
	if err != nil {
		return err
	}
	_, _, err = s.put(ctx, body, s.cfg.Limit, digest)
	return errors.Join(err, body.Close())
}
