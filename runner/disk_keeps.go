package runner

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
)

const (
	// imageAge is when an image counts as last used where the executor can't say.
	imageAge = 24 * time.Hour
	// logAge is how long a log stays whatever room it takes: people read them.
	logAge = 24 * time.Hour
	// imagesWithin bounds one question about images.
	imagesWithin = 30 * time.Second
)

// imageStore is an executor that keeps images.
type imageStore interface {
	// Images lists the names of those that are here.
	Images(ctx context.Context) ([]string, error)
	// Tidy removes images, least recently used first, until want bytes are free or
	// none is left that may go.
	Tidy(ctx context.Context, want int64) (freed int64, err error)
}

// datedImages is one that knows when the image that Tidy would remove next was last
// used; ok is false where there is none.
type datedImages interface {
	NextImage(ctx context.Context) (used time.Time, ok bool, err error)
}

// rooted is one whose images lie in a folder of their own, on whatever disk.
type rooted interface {
	Root(ctx context.Context) (string, error)
}

// diskLoop looks after the disks every now and then and after each attempt, and
// finds out which images are here.
func (r *Runner) diskLoop(ctx context.Context) error {
	ticker := time.NewTicker(r.cfg.DiskEvery)
	defer ticker.Stop()
	r.images.refresh(ctx)
	for {
		r.disk.look(ctx)
		if r.cfg.Full != nil {
			r.cfg.Full(r.disk.Full())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			r.images.refresh(ctx)
		case <-r.freed:
		}
	}
}

// places are the node's disks: that of the data directory, and that of the images
// where it is another.
func (r *Runner) places(ctx context.Context) []place {
	data := place{path: r.cfg.Dir, shelves: append(slices.Clone(r.cfg.Shelves), r.logShelf())}
	if r.images.store == nil {
		return []place{data}
	}
	if root := r.images.folder(ctx); root != "" && !sameDisk(root, r.cfg.Dir) {
		return []place{data, {path: root, shelves: []Shelf{r.images.shelf()}}}
	}
	data.shelves = append(data.shelves, r.images.shelf())
	return []place{data}
}

// Borrowed lists the object stores that the checkouts of living attempts refer to:
// their mirrors must stay.
func (r *Runner) Borrowed() []string {
	r.mu.Lock()
	var commits []fsm.Commit
	for _, a := range r.attempts {
		if a.state.alive() {
			commits = append(commits, a.work.Commit)
		}
	}
	r.mu.Unlock()
	var dirs []string
	for _, c := range commits {
		if dir := r.cfg.Checkout.ObjectsDir(c); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// logShelf is that of ended attempts' folders.
func (r *Runner) logShelf() Shelf {
	return Shelf{Name: "logs", List: func(ctx context.Context) ([]Kept, error) {
		logs, err := r.oldLogs(ctx, time.Now().Add(-logAge))
		var list []Kept
		for _, l := range logs {
			list = append(list, Kept{Bytes: l.bytes, Used: l.at})
		}
		return list, err
	}, Free: func(ctx context.Context, bytes int64) (freed int64, err error) {
		logs, err := r.oldLogs(ctx, time.Now().Add(-logAge))
		for _, l := range logs {
			if freed >= bytes || err != nil {
				break
			}
			if err = os.RemoveAll(filepath.Join(r.cfg.Dir, "attempts", l.name)); err == nil {
				freed += l.bytes
			}
		}
		return freed, err
	}}
}

// oldLogs are those of before, oldest first.
func (r *Runner) oldLogs(ctx context.Context, before time.Time) ([]keptLog, error) {
	logs, err := r.keptLogs(ctx)
	logs = slices.DeleteFunc(logs, func(l keptLog) bool { return !l.at.Before(before) })
	slices.SortFunc(logs, func(a, b keptLog) int { return a.at.Compare(b.at) })
	return logs, err
}

// imagesHere is what is known of the executor's images.
type imagesHere struct {
	store imageStore // nil where the executor has none
	warn  func(msg string, args ...any)
	root  string // once it is known; of the disks' loop

	mu     sync.Mutex
	names  []string
	failed bool
}

func newImagesHere(e Executor, warn func(msg string, args ...any)) *imagesHere {
	store, _ := e.(imageStore)
	return &imagesHere{store: store, warn: warn}
}

// list gives the images' names, as files may name them.
func (h *imagesHere) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names
}

// folder is where they lie; empty where the executor can't say, or not on this
// machine.
func (h *imagesHere) folder(ctx context.Context) string {
	store, ok := h.store.(rooted)
	if !ok || h.root != "" {
		return h.root
	}
	ctx, cancel := context.WithTimeout(ctx, imagesWithin)
	defer cancel()
	if root, err := store.Root(ctx); err == nil { // else it is asked again
		if _, err := os.Stat(root); err == nil {
			h.root = root
		}
	}
	return h.root
}

// refresh asks for the images; what is known stays where that fails.
func (h *imagesHere) refresh(ctx context.Context) {
	if h.store == nil {
		return
	}
	asked, cancel := context.WithTimeout(ctx, imagesWithin)
	defer cancel()
	names, err := h.store.Images(asked)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if !h.failed && ctx.Err() == nil {
			h.warn("list images", "error", err)
		}
		h.failed = true
		return
	}
	h.failed, h.names = false, asNamed(names)
}

// asNamed adds the names without the tag that is understood.
func asNamed(names []string) []string {
	all := slices.Clone(names)
	for _, name := range names {
		if bare, ok := strings.CutSuffix(name, ":latest"); ok {
			all = append(all, bare)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// shelf has the images go one at a time: their sizes are not known before.
func (h *imagesHere) shelf() Shelf {
	return Shelf{Name: "images", Free: h.store.Tidy, List: func(ctx context.Context) ([]Kept, error) {
		dated, ok := h.store.(datedImages)
		if !ok {
			return []Kept{{Used: time.Now().Add(-imageAge)}}, nil
		}
		used, ok, err := dated.NextImage(ctx)
		if err != nil || !ok {
			return nil, err
		}
		return []Kept{{Used: used}}, nil
	}}
}
