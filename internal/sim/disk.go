package sim

import (
	"slices"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/runner"
)

// disk is what a node has besides its memory: the ledger, and the containers,
// which outlive the process but not the machine.
type disk struct {
	entries    []*entry
	closed     []grave
	containers []*container

	noted []*entry // closed, but not on the disk before the next write
}

type entry struct {
	ref     fsm.AttemptRef
	work    link.Work
	outcome *fsm.Outcome
}

// container is a job that runs on a machine.
type container struct {
	m       *member
	ref     fsm.AttemptRef
	exited  bool
	outcome fsm.Outcome
}

func newDisk() disk { return disk{} }

func (d *disk) find(ref fsm.AttemptRef) *entry {
	for _, e := range d.entries {
		if e.ref == ref {
			return e
		}
	}
	return nil
}

func (d *disk) end(ref fsm.AttemptRef, o fsm.Outcome) {
	if e := d.find(ref); e != nil {
		e.outcome = &o
	}
}

func (d *disk) close(ref fsm.AttemptRef, s runner.State) {
	if e := d.find(ref); e != nil {
		d.noted = append(d.noted, e)
	}
	d.entries = slices.DeleteFunc(d.entries, func(e *entry) bool { return e.ref == ref })
	d.closed = append(d.closed, grave{ref, s})
}

// synced is called with every write: what was noted is on the disk, too.
func (d *disk) synced() { d.noted = nil }

// forget takes back what was noted and has not been written.
func (d *disk) forget() {
	for _, e := range d.noted {
		d.entries = append(d.entries, e)
		d.closed = slices.DeleteFunc(d.closed, func(g grave) bool { return g.ref == e.ref })
	}
	d.noted = nil
}

func (d *disk) container(ref fsm.AttemptRef) *container {
	for _, c := range d.containers {
		if c.ref == ref {
			return c
		}
	}
	return nil
}

func (d *disk) remove(c *container) {
	if c != nil {
		if !c.exited {
			c.exited = true
			c.m.w.check.stopped(c)
		}
		d.containers = slices.DeleteFunc(d.containers, func(o *container) bool { return o == c })
	}
}

// powerOff ends every container of the machine; nobody has seen how.
func (d *disk) powerOff() {
	for _, c := range slices.Clone(d.containers) {
		d.remove(c)
	}
}

// exit ends what runs in the container; its outcome stays until the process
// reads it.
func (c *container) exit(o fsm.Outcome) {
	if c.exited {
		return
	}
	c.exited, c.outcome = true, o
	c.m.w.check.stopped(c)
	if c.m.node != nil {
		c.m.node.exited(c)
	}
}
