package runner

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

// Shelf is one kind of what a node keeps for later, and can do without: mirrors,
// archives, images. What runs or is in use is not on it.
type Shelf struct {
	Name string
	// List gives what may go, in any order.
	List func(ctx context.Context) ([]Kept, error)
	// Free has the least recently used go until that many bytes are free, or none
	// is left that may go, and gives the bytes that it freed.
	Free func(ctx context.Context, bytes int64) (int64, error)
}

// place is a file system, and what lies on it.
type place struct {
	path    string
	shelves []Shelf
}

// fruitless is how long after it could free nothing a disk isn't cleared again: to
// find what may go is work.
const fruitless = time.Minute

// diskWatch keeps room on the node's disks.
type diskWatch struct {
	marks   Marks
	places  func(ctx context.Context) []place
	measure func(path string) (level, error)
	running func() int
	stock   func(room bool) // nil where nothing is made ahead
	log     *slog.Logger

	rest map[string]time.Time // until when a place is not cleared again; of look's goroutine

	scant map[string]bool // the places above their high mark, and the full ones; of look's goroutine

	mu   sync.Mutex
	full map[string]bool // by the place's path
}

// Full reports whether the node can take no jobs.
func (d *diskWatch) Full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.full) > 0
}

// look measures all disks, and clears those that are above their marks.
func (d *diskWatch) look(ctx context.Context) {
	if !d.marks.on() {
		return
	}
	for _, p := range d.places(ctx) {
		if err := d.lookAt(ctx, p); err != nil && ctx.Err() == nil {
			d.log.Warn("keep room on the disk", "path", p.path, "error", err)
		}
	}
}

func (d *diskWatch) lookAt(ctx context.Context, p place) error {
	l, err := d.measure(p.path)
	if err != nil {
		return err
	}
	s := strain{full: d.isFull(p.path), idle: d.running() == 0}
	free, full := assess(l, d.marks, s)
	d.note(p.path, l, full)
	if free == 0 {
		return nil
	}
	var cleared error
	if time.Now().After(d.rest[p.path]) {
		cleared = d.clear(ctx, p, s)
		if l, err = d.measure(p.path); err != nil {
			return err
		}
	}
	s.tried, s.full = true, full
	_, full = assess(l, d.marks, s)
	d.note(p.path, l, full)
	return cleared
}

// clear has things go until the low mark is reached, or nothing is left.
func (d *diskWatch) clear(ctx context.Context, p place, s strain) error {
	shelves := slices.Clone(p.shelves)
	s.full = true // down to the low mark, once begun
	var total int64
	for ctx.Err() == nil {
		l, err := d.measure(p.path)
		if err != nil {
			return err
		}
		free, _ := assess(l, d.marks, s)
		if free == 0 {
			break
		}
		var freed int64
		if freed, shelves = d.round(ctx, shelves, free); freed == 0 && len(shelves) == 0 {
			d.rest[p.path] = time.Now().Add(fruitless)
			break
		}
		total += freed
	}
	if total > 0 {
		d.log.Info("made room on the disk", "path", p.path, "freed", bytesText(total))
	}
	return ctx.Err()
}

// round has each shelf give up its share, and gives those that have more. What fails
// is logged, and done without.
func (d *diskWatch) round(ctx context.Context, shelves []Shelf, free int64) (freed int64, rest []Shelf) {
	lists := make([][]Kept, len(shelves))
	for i, shelf := range shelves {
		var err error
		if lists[i], err = shelf.List(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("look for what can go", "kind", shelf.Name, "error", err)
		}
	}
	for i, bytes := range share(lists, free) {
		if bytes == 0 {
			if len(lists[i]) > 0 { // its turn may come
				rest = append(rest, shelves[i])
			}
			continue
		}
		n, err := shelves[i].Free(ctx, bytes)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("make room on the disk", "kind", shelves[i].Name, "error", err)
		}
		freed += n
		if n >= bytes {
			rest = append(rest, shelves[i])
		}
	}
	return freed, rest
}

func (d *diskWatch) isFull(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full[path]
}

// ration tells whether there is room for what is made ahead, when that changes. It goes
// before anything that was in use does: it would keep the images that it is made of.
func (d *diskWatch) ration(path string, scant bool) {
	before := len(d.scant)
	if scant {
		d.scant[path] = true
	} else {
		delete(d.scant, path)
	}
	if d.stock != nil && (before > 0) != (len(d.scant) > 0) {
		d.stock(len(d.scant) == 0)
	}
}

// note keeps whether a disk is full, and says so when that changes.
func (d *diskWatch) note(path string, l level, full bool) {
	d.ration(path, full || l.used > d.marks.High.used(l.size))
	d.mu.Lock()
	defer d.mu.Unlock()
	if full == d.full[path] {
		return
	}
	if !full {
		delete(d.full, path)
		d.log.Info("there is room on the disk again: this node takes jobs", "path", path, "used", l.String())
		return
	}
	d.full[path] = true
	d.log.Warn(fmt.Sprintf("the disk is full: this node takes no jobs until there is room (%s)", d.marks.Low), "path", path, "used", l.String())
}

// measure asks the file system that holds path. What is kept for root counts as
// neither used nor free.
func measure(path string) (level, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return level{}, fmt.Errorf("measure disk: %w", err)
	}
	return level{size: int64(u.Used + u.Free), used: int64(u.Used)}, nil // no disk has 8 EiB
}

// sameDisk reports whether two folders lie on one file system.
func sameDisk(a, b string) bool {
	device := func(path string) (uint64, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return uint64(s.Dev), true //nolint:unconvert // it is not the same type everywhere
	}
	x, known := device(a)
	y, ok := device(b)
	return known && ok && x == y
}
