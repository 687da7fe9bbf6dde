package inbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// Filter says which deliveries to list. Zero fields say nothing.
type Filter struct {
	Repo   string
	Status Status
	Limit  int
}

func (f Filter) wants(d *Delivery) bool {
	return (f.Repo == "" || strings.EqualFold(f.Repo, d.Repo)) && (f.Status == "" || f.Status == d.Status)
}

// List gives deliveries, the newest first.
func (b *Inbox) List(f Filter) ([]Delivery, error) {
	var found []Delivery
	err := b.db.View(func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{verified, strangers} {
			n := 0
			c := tx.Bucket(bucket).Cursor()
			for k, v := c.Last(); k != nil && (f.Limit == 0 || n < f.Limit); k, v = c.Prev() {
				var d Delivery
				if err := json.Unmarshal(v, &d); err != nil {
					return fmt.Errorf("read delivery %s: %w", k, err)
				}
				if f.wants(&d) {
					found = append(found, d)
					n++
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return Newest(found, f.Limit), nil
}

// Newest puts deliveries, of several nodes, in order, and cuts them to limit; 0 is no
// limit.
func Newest(all []Delivery, limit int) []Delivery {
	slices.SortFunc(all, func(a, b Delivery) int { return strings.Compare(b.ID, a.ID) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}

// Waiting takes a delivery that waits for its outcome and that nobody sees to: the
// oldest of those after an ID. It is the caller's until Settle; ok is false where there
// is none.
func (b *Inbox) Waiting(after string) (d Delivery, body []byte, ok bool, err error) {
	for {
		id := b.next(after)
		if id == "" {
			return d, nil, false, nil
		}
		d, body, err = b.Find(id)
		if errors.Is(err, ErrNotFound) { // there was no room for it
			b.note(id, false, false)
			continue
		}
		if err != nil {
			b.note(id, true, false)
		}
		return d, body, err == nil, err
	}
}

func (b *Inbox) next(after string) (id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for waiting, held := range b.waiting {
		if !held && waiting > after && (id == "" || waiting < id) {
			id = waiting
		}
	}
	if id != "" {
		b.waiting[id] = true
	}
	return id
}

// Wakes has something when a delivery has come among Waiting.
func (b *Inbox) Wakes() <-chan struct{} { return b.wakes }

// note says whether a delivery waits for its outcome, and whether somebody sees to it.
func (b *Inbox) note(id string, waits, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !waits {
		delete(b.waiting, id)
		return
	}
	b.waiting[id] = held
	if !held {
		select {
		case b.wakes <- struct{}{}:
		default: // it is known already
		}
	}
}
