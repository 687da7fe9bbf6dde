package main

import (
	"context"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/runner"
)

// shelves are what may go when the disk fills up.
func (w *workshop) shelves(around surroundings) []runner.Shelf {
	list := []runner.Shelf{w.mirrorShelf()}
	for name, store := range map[string]any{"archives": around.blobs, "bundles": around.bundles, "sealed logs": around.sealed} {
		if s, ok := store.(fileStore); ok {
			list = append(list, fileShelf(name, s))
		}
	}
	return list
}

// mirrorShelf is that of the mirrors, but for those that jobs work with.
func (w *workshop) mirrorShelf() runner.Shelf {
	return runner.Shelf{Name: "mirrors", List: func(context.Context) (list []runner.Kept, err error) {
		for _, m := range w.mirrors.Idle(w.Borrowed()) {
			list = append(list, runner.Kept{Bytes: max(1, m.Bytes), Used: m.Used})
		}
		return list, nil
	}, Free: func(_ context.Context, bytes int64) (int64, error) {
		return w.mirrors.Evict(bytes, w.Borrowed())
	}}
}

// fileStore is a store on this disk: that of a laptop's one bundle is none.
type fileStore interface {
	List() ([]blob.Info, error)
	Free(bytes int64) (int64, error)
}

// fileShelf is that of a store of files. Those that are too young to go are on it
// too: they are among the last that are asked for.
func fileShelf(name string, s fileStore) runner.Shelf {
	return runner.Shelf{Name: name, List: func(context.Context) (list []runner.Kept, err error) {
		all, err := s.List()
		for _, b := range all {
			list = append(list, runner.Kept{Bytes: max(1, b.Size), Used: b.UsedAt})
		}
		return list, err
	}, Free: func(_ context.Context, bytes int64) (int64, error) { return s.Free(bytes) }}
}
