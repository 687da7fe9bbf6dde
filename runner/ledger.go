package runner

import (
	"fmt"
	"slices"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// record is one line of the ledger. Exactly one of its pointers is set.
type record struct {
	Accepted *accepted       `cbor:"1,keyasint,omitempty"`
	Started  *fsm.AttemptRef `cbor:"2,keyasint,omitempty"` // its process was started
	Ended    *outcome        `cbor:"3,keyasint,omitempty"`
	Closed   *closing        `cbor:"4,keyasint,omitempty"`
}

type accepted struct {
	Ref  fsm.AttemptRef `cbor:"1,keyasint"`
	Work link.Work      `cbor:"2,keyasint"`
	Boot string         `cbor:"3,keyasint,omitempty"` // Config.Boot at the time
}

type outcome struct {
	Ref     fsm.AttemptRef `cbor:"1,keyasint"`
	Outcome fsm.Outcome    `cbor:"2,keyasint"`
}

// closing ends what the ledger has to remember of an attempt, but for that it
// has been: an attempt is never begun twice.
type closing struct {
	Ref fsm.AttemptRef `cbor:"1,keyasint"`
	// Dropped says that its end was never told to a leader: it was superseded.
	Dropped bool `cbor:"2,keyasint,omitempty"`
}

// entry is an attempt that is not closed.
type entry struct {
	Ref     fsm.AttemptRef
	Work    link.Work
	Boot    string
	Started bool
	Outcome *fsm.Outcome // set when it has ended
}

// maxClosed is how many closed attempts are remembered, the oldest go first. A
// leader's wish is at most seconds old, so this is hours of margin.
const maxClosed = 4096

// book is what the ledger's records say, in the order in which they were first
// met.
type book struct {
	open   map[fsm.AttemptRef]*entry
	order  []fsm.AttemptRef // of open; holds closed ones until the next compaction
	closed []closing
}

func newBook() *book { return &book{open: map[fsm.AttemptRef]*entry{}} }

// apply is idempotent: a record that a compaction has already taken in changes
// nothing.
func (b *book) apply(r record) {
	switch {
	case r.Accepted != nil:
		if b.open[r.Accepted.Ref] == nil {
			b.open[r.Accepted.Ref] = &entry{Ref: r.Accepted.Ref, Work: r.Accepted.Work, Boot: r.Accepted.Boot}
			b.order = append(b.order, r.Accepted.Ref)
		}
	case r.Started != nil:
		if e := b.open[*r.Started]; e != nil {
			e.Started = true
		}
	case r.Ended != nil:
		if e := b.open[r.Ended.Ref]; e != nil && e.Outcome == nil {
			e.Outcome = &r.Ended.Outcome
		}
	case r.Closed != nil:
		delete(b.open, r.Closed.Ref)
		b.closed = append(b.closed, *r.Closed)
		if len(b.closed) >= 2*maxClosed {
			b.closed = slices.Clone(b.closed[len(b.closed)-maxClosed:])
		}
	}
}

// entries lists what is open, oldest first.
func (b *book) entries() []entry {
	out := make([]entry, 0, len(b.open))
	b.order = slices.DeleteFunc(b.order, func(ref fsm.AttemptRef) bool {
		e := b.open[ref]
		if e != nil {
			out = append(out, *e)
		}
		return e == nil
	})
	return out
}

// records says the same as the book in as few records as there may be.
func (b *book) records() []record {
	var out []record
	for _, c := range b.closed[max(0, len(b.closed)-maxClosed):] {
		out = append(out, record{Closed: &c})
	}
	for _, e := range b.entries() {
		out = append(out, record{Accepted: &accepted{Ref: e.Ref, Work: e.Work, Boot: e.Boot}})
		if e.Started {
			out = append(out, record{Started: &e.Ref})
		}
		if e.Outcome != nil {
			out = append(out, record{Ended: &outcome{Ref: e.Ref, Outcome: *e.Outcome}})
		}
	}
	return out
}

// ledger is the node's memory of its attempts: one append-only file. Many
// callers' records travel in one fsync. After an error of the disk every
// further call fails with it: what is on the disk is unknown then.
type ledger struct {
	enc cbor.EncMode

	mu   sync.Mutex // guards book and next
	book *book
	next *batch

	disk sync.Mutex // held by the one that writes; guards file
	file ledgerFile
}

// batch collects the records that go to the disk together.
type batch struct {
	buf  []byte
	done bool // set with err, under ledger.disk
	err  error
}

// openLedger reads the ledger at path, or founds it. lost is how many bytes of
// a torn end were cut off.
func openLedger(path string) (l *ledger, lost int64, err error) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		return nil, 0, fmt.Errorf("set up cbor: %w", err)
	}
	l = &ledger{enc: enc, book: newBook(), next: &batch{}}
	lost, err = l.file.open(path, func(payload []byte) error {
		var r record
		if err := cbor.Unmarshal(payload, &r); err != nil {
			return err
		}
		l.book.apply(r)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open ledger %s: %w", path, err)
	}
	if l.file.size > compactAt {
		if err := l.compact(); err != nil {
			return nil, 0, err
		}
	}
	return l, lost, nil
}

// append puts records on the disk, and returns when they are there.
func (l *ledger) append(records ...record) error {
	b, err := l.put(records)
	if err != nil {
		return err
	}
	return l.flush(b)
}

// note has records written with the next append. Losing them must do no harm.
func (l *ledger) note(records ...record) error {
	_, err := l.put(records)
	return err
}

func (l *ledger) put(records []record) (*batch, error) {
	frames := make([]byte, 0, 512)
	for _, r := range records {
		payload, err := l.enc.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode ledger record: %w", err)
		}
		frames = appendFrame(frames, payload)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		l.book.apply(r)
	}
	l.next.buf = append(l.next.buf, frames...)
	return l.next, nil
}

// flush writes b unless another caller has. Whoever waits here while one fsync
// runs shares the next.
func (l *ledger) flush(b *batch) error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if b.done {
		return b.err
	}
	if l.file.size > l.file.compacted*8+compactAt {
		b.err = l.compact() // takes in b too
	} else {
		l.mu.Lock()
		l.next = &batch{}
		l.mu.Unlock()
		b.err = l.file.write(b.buf)
	}
	b.done = true
	return b.err
}

// compact writes the book as a new file in place of the old one. The caller
// holds disk, or is alone.
func (l *ledger) compact() error {
	l.mu.Lock()
	l.next = &batch{}
	records := l.book.records()
	l.mu.Unlock()
	var frames []byte
	for _, r := range records {
		payload, err := l.enc.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode ledger record: %w", err)
		}
		frames = appendFrame(frames, payload)
	}
	return l.file.replace(frames)
}

// close writes what was noted.
func (l *ledger) close() error {
	l.mu.Lock()
	b := l.next
	l.mu.Unlock()
	err := l.flush(b)
	l.disk.Lock()
	defer l.disk.Unlock()
	if cerr := l.file.close(); err == nil {
		err = cerr
	}
	return err
}
