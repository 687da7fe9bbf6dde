// Package inbox is a node's record of the webhooks that came to it: each is on this
// disk, with its body, before it is answered, and what became of it is written beside
// it. So a delivery that a crash cut off is handed in at the next start, and any can be
// looked at and replayed.
//
// It does not judge deliveries: package agent says what they mean, and whether the
// sender was who it said. Nor does it hold credentials: a delivery that is here for its
// content was verified before, and neither tokens nor signatures are kept.
//
// Invariants: what strangers send (Refuse) has a place of its own, without bodies and
// as large as it is, so that it neither fills the disk nor pushes out what was signed.
// Both places are bounded by number, bytes and age; the oldest go first.
//
// Start reading at Inbox, then Delivery (delivery.go).
package inbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/time/rate"
)

var (
	// ErrNotFound is returned when there is no delivery of that ID here, or not any
	// more.
	ErrNotFound = errors.New("no such delivery")
	// ErrUnverified is returned when a delivery is to be replayed of which nobody knows
	// who sent it.
	ErrUnverified = errors.New("nothing shows that the forge sent this delivery, and its body was not kept: have the forge send it again")
)

// Bounds are how much is kept. Zero fields take the default that their comment names.
type Bounds struct {
	Age   time.Duration // of any delivery; default 30 days
	Count int           // of deliveries that were verified; default 5,000
	Bytes int64         // of their bodies; default 64 MiB
	// Strangers is how many of the others are kept; default 200. Of those that come
	// faster than one a second, after the first 20, none is.
	Strangers int
}

func (b Bounds) withDefaults() Bounds {
	if b.Age == 0 {
		b.Age = 30 * 24 * time.Hour
	}
	if b.Count == 0 {
		b.Count = 5000
	}
	if b.Bytes == 0 {
		b.Bytes = 64 << 20
	}
	if b.Strangers == 0 {
		b.Strangers = 200
	}
	return b
}

const (
	strangersEach  = time.Second
	strangersBurst = 20
	// gather is how long a write waits for others, to share its fsync with them.
	gather = 200 * time.Microsecond
)

// The buckets. Keys are IDs, and so in the order of time.
var (
	verified  = []byte("verified")  // Delivery, as JSON
	strangers = []byte("strangers") // likewise
	bodies    = []byte("bodies")    // of verified
	sums      = []byte("sums")      // of verified: how many, how many bytes
)

// Inbox is the record. Its methods may be called from any goroutine.
type Inbox struct {
	db     *bbolt.DB
	bounds Bounds
	log    *slog.Logger
	limit  *rate.Limiter // of strangers

	mu      sync.Mutex
	waiting map[string]bool // by ID: those whose outcome is Waiting; true where somebody sees to it
	last    int64           // the time of the newest ID, in milliseconds
	wakes   chan struct{}
}

// Open opens the file at path, or makes it. One that is damaged is set aside, and told
// of in the log: it holds nothing that the cluster goes by.
func Open(path string, bounds Bounds, log *slog.Logger) (*Inbox, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	b := &Inbox{
		bounds: bounds.withDefaults(), log: log, limit: rate.NewLimiter(rate.Every(strangersEach), strangersBurst),
		waiting: make(map[string]bool), wakes: make(chan struct{}, 1),
	}
	if err := readable(path); errors.Is(err, errUnfit) {
		aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405")
		log.Error("the record of webhooks is damaged: it is set aside and begun anew", "file", path, "aside", aside, "error", err)
		if err := os.Rename(path, aside); err != nil {
			return nil, fmt.Errorf("open inbox: set the damaged file aside: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", path, err)
	}
	var err error
	if b.db, err = bbolt.Open(path, 0o600, options()); err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", path, err)
	}
	b.db.MaxBatchDelay = gather
	if err := b.db.Update(b.begin); err != nil {
		return nil, errors.Join(fmt.Errorf("open inbox %s: %w", path, err), b.db.Close())
	}
	return b, nil
}

func options() *bbolt.Options {
	return &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: time.Second}
}

func (b *Inbox) begin(tx *bbolt.Tx) error {
	for _, name := range [][]byte{verified, strangers, bodies, sums} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if err := b.expire(tx, time.Now()); err != nil {
		return err
	}
	return tx.Bucket(verified).ForEach(func(k, v []byte) error {
		var d Delivery
		if err := json.Unmarshal(v, &d); err != nil {
			return err
		}
		if d.Status == Waiting {
			b.waiting[d.ID] = false
		}
		return nil
	})
}

// Close closes the file. No other method may run or be called any more.
func (b *Inbox) Close() error {
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close inbox: %w", err)
	}
	return nil
}

// Keep writes down a delivery that was verified, with its body, and gives it its ID
// and time. It waits for an outcome then, and is the caller's until Settle: Waiting
// leaves it out.
func (b *Inbox) Keep(d *Delivery, body []byte) error {
	b.stamp(d)
	d.Size, d.Status, d.Verified = len(body), Waiting, true
	b.note(d.ID, true, true)
	err := b.db.Batch(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bodies).Put([]byte(d.ID), body); err != nil {
			return err
		}
		if err := put(tx, verified, d); err != nil {
			return err
		}
		if err := count(tx, 1, int64(len(body))); err != nil {
			return err
		}
		return b.expire(tx, d.At)
	})
	if err != nil {
		b.note(d.ID, false, false)
		return fmt.Errorf("keep delivery: %w", err)
	}
	return nil
}

// Refuse notes a delivery of which nobody knows who sent it, without its body, and why
// it was refused; but not where too many of them come. It gives it an ID and a time
// where it is noted.
func (b *Inbox) Refuse(d *Delivery, reason string) error {
	if !b.limit.Allow() {
		return nil
	}
	b.stamp(d)
	d.Outcome = Outcome{Status: Refused, Reason: reason, SettledAt: d.At}
	err := b.db.Batch(func(tx *bbolt.Tx) error {
		if err := put(tx, strangers, d); err != nil {
			return err
		}
		return b.expire(tx, d.At)
	})
	if err != nil {
		return fmt.Errorf("note refused delivery: %w", err)
	}
	return nil
}

// Settle writes down what became of a delivery that was kept, and lets it go. One that
// still waits is among Waiting from then on. It is no error where the delivery has gone
// meanwhile.
func (b *Inbox) Settle(id string, o Outcome) error {
	return b.change(id, func(d *Delivery) {
		o.SettledAt = time.Now().UTC()
		d.Outcome = o
	})
}

// Replayed is Settle for a delivery that somebody had handed in once more.
func (b *Inbox) Replayed(id string, o Outcome) error {
	return b.change(id, func(d *Delivery) {
		now := time.Now().UTC()
		d.Replays, d.ReplayedAt = d.Replays+1, now
		if o.Status == Known && d.Status == Accepted && o.Build == d.Build {
			return // it is the one that this delivery made
		}
		if o.Status == Waiting && d.Status != Waiting {
			return // nothing came of it: who asked is told so
		}
		o.SettledAt = now
		d.Outcome = o
	})
}

// change writes a delivery's outcome. Where that fails the delivery still waits, on the
// disk and here: what is handed in twice is built once.
func (b *Inbox) change(id string, with func(*Delivery)) error {
	var now Status
	err := b.db.Batch(func(tx *bbolt.Tx) error {
		d, err := find(tx, verified, id)
		if errors.Is(err, ErrNotFound) {
			now = Failed
			return nil
		}
		if err != nil {
			return err
		}
		with(&d)
		now = d.Status
		return put(tx, verified, &d)
	})
	b.note(id, err != nil || now == Waiting, false)
	if err != nil {
		return fmt.Errorf("settle delivery %s: %w", id, err)
	}
	return nil
}

// Find is a delivery with its body, which is nil where it was not kept.
func (b *Inbox) Find(id string) (d Delivery, body []byte, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		if d, err = find(tx, verified, id); errors.Is(err, ErrNotFound) {
			d, err = find(tx, strangers, id)
			return err
		}
		if err != nil {
			return err
		}
		body = append([]byte{}, tx.Bucket(bodies).Get([]byte(id))...)
		return nil
	})
	if err != nil {
		return Delivery{}, nil, fmt.Errorf("delivery %s: %w", id, err)
	}
	return d, body, nil
}

func find(tx *bbolt.Tx, bucket []byte, id string) (d Delivery, err error) {
	data := tx.Bucket(bucket).Get([]byte(id))
	if data == nil {
		return d, ErrNotFound
	}
	err = json.Unmarshal(data, &d)
	return d, err
}

func put(tx *bbolt.Tx, bucket []byte, d *Delivery) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(d.ID), data)
}
