package cluster

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// Machine is the replicated state machine that the log drives. Apply and
// Snapshot are never called at the same time; what Snapshot returned may run
// while Apply does.
type Machine interface {
	// Apply changes the state by one entry, deterministically. What an entry is
	// refused with belongs into the result. An error means that this node cannot
	// understand the entry: the node stops, and nothing is applied after it.
	Apply(index, term uint64, entry []byte) (any, error)
	// Snapshot captures the state at this point, cheaply; the function it returns
	// writes it.
	Snapshot() func(io.Writer) error
	// Restore replaces the state by a snapshot; on an error it changes nothing.
	Restore(io.Reader) error
}

// driver lets Raft drive a Machine.
type driver struct {
	machine Machine
	fatal   chan error // one slot

	mu      sync.Mutex
	broken  error
	running bool // past the start, where an older snapshot may still do
}

func newDriver(m Machine) *driver { return &driver{machine: m, fatal: make(chan error, 1)} }

// breakDown stops the machine for good: an entry must not be skipped.
func (d *driver) breakDown(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
		d.fatal <- err
	}
	return d.broken
}

func (d *driver) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = true
}

func (d *driver) started() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running
}

func (d *driver) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// Apply returns the machine's result, or an error once it has broken down.
func (d *driver) Apply(entry *raft.Log) any {
	if err := d.err(); err != nil {
		return err
	}
	result, err := d.machine.Apply(entry.Index, entry.Term, entry.Data)
	if err != nil {
		return d.breakDown(fmt.Errorf("%w: entry %d: %w", ErrMachine, entry.Index, err))
	}
	return applied{result}
}

// applied tells a result, whatever its type, from a breakdown.
type applied struct{ result any }

// Snapshot is refused after a breakdown: Raft would take it for one that holds
// the entries that were not applied.
func (d *driver) Snapshot() (raft.FSMSnapshot, error) {
	if err := d.err(); err != nil {
		return nil, err
	}
	return snapshot(d.machine.Snapshot()), nil
}

func (d *driver) Restore(r io.ReadCloser) error {
	if err := d.err(); err != nil {
		return err
	}
	err := d.machine.Restore(r)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: restore snapshot: %w", ErrMachine, err)
	if d.started() {
		return d.breakDown(err)
	}
	return err
}

type snapshot func(io.Writer) error

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s(sink); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

func (snapshot) Release() {}
