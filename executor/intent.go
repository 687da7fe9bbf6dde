package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

const intentFile = "pulls.json"

// intents are the pulls with credentials that are under way, or were when narwhal
// ended: what one of them brings is private before anyone has written that down. Images
// that the engine had before are not touched: those are everybody's, as ever.
type intents struct {
	path string // empty keeps it in memory

	mu    sync.Mutex
	pulls map[string]intent // by the image's name
}

type intent struct {
	Before string `json:"before,omitempty"` // the image that had the name then
	live   int    // pulls of this process
}

// openIntents reads what an earlier process has left. Unlike the record of images, a
// list that can't be read is an error: without it a private image would be everybody's.
func openIntents(dir string) (*intents, error) {
	s := &intents{pulls: make(map[string]intent)}
	if dir == "" {
		return s, nil
	}
	s.path = filepath.Join(dir, intentFile)
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.pulls)
	}
	if err != nil {
		return nil, fmt.Errorf("read the pulls that were under way: %w; remove private images from the engine, then this file", err)
	}
	if s.pulls == nil {
		s.pulls = make(map[string]intent)
	}
	return s, nil
}

// begin notes a pull with credentials before it begins.
func (s *intents) begin(name, before string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.pulls[name]
	if !known {
		p.Before = before
	}
	p.live++
	s.pulls[name] = p
	if known {
		return nil
	}
	if err := s.write(); err != nil {
		delete(s.pulls, name)
		return err
	}
	return nil
}

// end forgets a pull of which it is written down what it brought.
func (s *intents) end(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pulls[name]
	if p.live--; p.live > 0 {
		s.pulls[name] = p
		return nil
	}
	delete(s.pulls, name)
	return s.write()
}

func (s *intents) list() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]string, len(s.pulls))
	for name, p := range s.pulls {
		all[name] = p.Before
	}
	return all
}

func (s *intents) write() error {
	if s.path == "" {
		return nil
	}
	data, err := json.Marshal(s.pulls)
	if err != nil {
		return fmt.Errorf("note a pull: %w", err)
	}
	if err := writeSynced(s.path, data); err != nil {
		return fmt.Errorf("note a pull: %w", err)
	}
	return nil
}

// writeSynced replaces a file, so that a crash of the machine finds the old or the new,
// and the new once it has returned: a pull is forgotten only when what it brought is on
// the disk.
func writeSynced(path string, data []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// settle marks as private what pulls with credentials have brought of which nobody has
// written that down yet. It is for after an image was looked up, and before it is given
// to a job.
func (d *Docker) settle(ctx context.Context) error {
	for name, before := range d.intents.list() {
		found, err := d.api.ImageInspect(ctx, name)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look what a pull has brought: %w", err)
		}
		if found.ID == before {
			continue
		}
		if err := d.store.claim(found.ID, stored{Names: []string{name}, Pulled: true, Private: true, Used: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// turns are held by whoever pulls, one for each image.
type turns struct {
	mu    sync.Mutex
	names map[string]*turn
}

type turn struct {
	sync.Mutex
	users int
}

// take returns when nobody else pulls the image; done lets the next one.
func (t *turns) take(name string) (done func()) {
	t.mu.Lock()
	if t.names == nil {
		t.names = make(map[string]*turn)
	}
	mine := t.names[name]
	if mine == nil {
		mine = &turn{}
		t.names[name] = mine
	}
	mine.users++
	t.mu.Unlock()
	mine.Lock()
	return func() {
		mine.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.names, name)
		}
	}
}
