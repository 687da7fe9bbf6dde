package joblog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// Follow yields the records of the log at path from offset on, those that come
// later too, until done is closed and all that was written before has been
// yielded. The log need not be there yet, its folder must be. The error that ends
// it is ctx's or the file's.
func Follow(ctx context.Context, path string, offset int64, done <-chan struct{}) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		path = filepath.Clean(path)
		wake, leave, err := changes.join(path)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer leave()
		f := follower{path: path, offset: offset}
		defer f.close()
		for {
			ended := closed(done) // before reading: what was written by then is read
			if more, err := f.drain(ctx, yield); err != nil {
				yield(Line{}, err)
				return
			} else if !more || ended {
				return
			}
			select {
			case <-wake:
			case <-done:
			case <-ctx.Done():
				yield(Line{}, ctx.Err())
				return
			}
		}
	}
}

type follower struct {
	path   string
	offset int64
	reader *Reader // nil until the log is there
}

// drain yields what is there; more is false when the consumer has had enough.
func (f *follower) drain(ctx context.Context, yield func(Line, error) bool) (more bool, err error) {
	if f.reader == nil {
		f.reader, err = Open(f.path, f.offset)
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	for {
		line, err := f.reader.Next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if !yield(line, nil) {
			return false, nil
		}
	}
}

func (f *follower) close() {
	if f.reader != nil {
		_ = f.reader.Close()
	}
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// changes is shared by all followers of this process, because the kernel gives a
// user few inotify instances (128 where nobody raised it). It holds one while
// somebody follows, and none otherwise.
var changes hub

type hub struct {
	mu      sync.Mutex
	current *instance // nil while nobody follows
}

type instance struct {
	watcher *fsnotify.Watcher
	loop    sync.WaitGroup
	waiting map[string]map[string]map[chan struct{}]bool // by folder, by path
}

// join has wake signalled whenever the file at path, or its folder, changes.
// leave ends that; the last one to leave waits for what join started.
func (h *hub) join(path string) (wake chan struct{}, leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return nil, nil, err
		}
		in := &instance{watcher: w, waiting: make(map[string]map[string]map[chan struct{}]bool)}
		in.loop.Go(func() { h.run(in) })
		h.current = in
	}
	in, dir := h.current, filepath.Dir(path)
	if in.waiting[dir] == nil {
		if err := in.watcher.Add(dir); err != nil {
			if len(in.waiting) == 0 {
				h.current = nil // nobody else can come to hold it
				h.mu.Unlock()
				_ = in.watcher.Close()
				in.loop.Wait()
				h.mu.Lock()
			}
			return nil, nil, &fs.PathError{Op: "watch", Path: dir, Err: err}
		}
		in.waiting[dir] = make(map[string]map[chan struct{}]bool)
	}
	if in.waiting[dir][path] == nil {
		in.waiting[dir][path] = make(map[chan struct{}]bool)
	}
	wake = make(chan struct{}, 1)
	in.waiting[dir][path][wake] = true
	return wake, func() { h.leave(in, dir, path, wake) }, nil
}

func (h *hub) leave(in *instance, dir, path string, wake chan struct{}) {
	h.mu.Lock()
	delete(in.waiting[dir][path], wake)
	if len(in.waiting[dir][path]) == 0 {
		delete(in.waiting[dir], path)
	}
	if len(in.waiting[dir]) == 0 {
		delete(in.waiting, dir)
		_ = in.watcher.Remove(dir) // the folder may be gone, and its watch with it
	}
	last := len(in.waiting) == 0
	if last {
		h.current = nil
	}
	h.mu.Unlock()
	if last {
		_ = in.watcher.Close()
		in.loop.Wait()
	}
}

// run wakes followers until the watcher is closed.
func (h *hub) run(in *instance) {
	for {
		select {
		case event, ok := <-in.watcher.Events:
			if !ok {
				return
			}
			h.wake(in, event.Name)
		case _, ok := <-in.watcher.Errors: // events were lost
			if !ok {
				return
			}
			h.wake(in, "")
		}
	}
}

// wake signals the followers of path; of every path where it is empty.
func (h *hub) wake(in *instance, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for dir, paths := range in.waiting {
		if path != "" && dir != filepath.Dir(path) && dir != path {
			continue
		}
		for name, wakes := range paths {
			if path != "" && name != path && dir != path {
				continue
			}
			for wake := range wakes {
				select {
				case wake <- struct{}{}:
				default: // it has not looked since the last one
				}
			}
		}
	}
}
