package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

const (
	storeFile = "images.json"
	// staleAfter is how much later an image's use must be to be written down again.
	staleAfter = time.Minute
)

// stored is what narwhal keeps of an image: the engine knows neither when it was
// used nor who brought it.
type stored struct {
	Names   []string  `json:"names,omitempty"`   // as they were asked for
	Pulled  bool      `json:"pulled,omitempty"`  // by narwhal: it was not there before
	Private bool      `json:"private,omitempty"` // brought by credentials
	Used    time.Time `json:"used"`
}

// imageStore is the record of the engine's images, by their IDs. Which credentials
// have been accepted for which image is never on the disk.
type imageStore struct {
	path string // empty keeps it in memory

	mu     sync.Mutex
	images map[string]stored
	proven map[string]map[proof]bool
	held   map[string]int // by attempts that have no container yet
}

// openStore reads the record in dir. One that can't be read is begun anew: then
// narwhal takes no image for its own.
func openStore(dir string) (*imageStore, error) {
	s := &imageStore{images: make(map[string]stored), proven: make(map[string]map[proof]bool), held: make(map[string]int)}
	if dir == "" {
		return s, nil
	}
	s.path = filepath.Join(dir, storeFile)
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of images: %w", err)
	}
	if json.Unmarshal(data, &s.images) != nil || s.images == nil {
		s.images = make(map[string]stored)
	}
	return s, nil
}

// allows reports whether one who has shown p, or nothing, may use the image.
func (s *imageStore) allows(id string, p proof) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.images[id].Private || s.proven[id][p]
}

// used notes an image's use, also of one that others brought.
func (s *imageStore) used(id string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.images[id]
	if at.Sub(entry.Used) < staleAfter {
		return
	}
	entry.Used = at
	s.images[id] = entry
	_ = s.write() // the next one is written again
}

// add notes an image that has been pulled with what p stands for.
func (s *imageStore) add(id string, entry stored, p proof) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.images[id]
	entry.Pulled = entry.Pulled || old.Pulled
	// What anyone could have had is no secret, whoever asks for it next.
	entry.Private = entry.Private && (old.Private || !known && entry.Pulled)
	for _, name := range old.Names {
		if !slices.Contains(entry.Names, name) {
			entry.Names = append(entry.Names, name)
		}
	}
	s.images[id] = entry
	if s.proven[id] == nil {
		s.proven[id] = make(map[proof]bool)
	}
	s.proven[id][p] = true
	return s.write()
}

// claim notes an image that nobody has noted yet.
func (s *imageStore) claim(id string, entry stored) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.images[id]; known {
		return nil
	}
	s.images[id] = entry
	return s.write()
}

func (s *imageStore) write() error {
	if s.path == "" {
		return nil
	}
	data, err := json.Marshal(s.images)
	if err != nil {
		return fmt.Errorf("write record of images: %w", err)
	}
	if err := writeSynced(s.path, data); err != nil {
		return fmt.Errorf("write record of images: %w", err)
	}
	return nil
}

// holding keeps images from being tidied away until its release: their containers
// are still to be made.
type holding struct {
	store *imageStore
	ids   []string
}

func (s *imageStore) hold() *holding { return &holding{store: s} }

func (h *holding) add(id string) {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.store.held[id]++
	h.ids = append(h.ids, id)
}

func (h *holding) release() {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	for _, id := range h.ids {
		if h.store.held[id]--; h.store.held[id] == 0 {
			delete(h.store.held, id)
		}
	}
	h.ids = nil
}

// candidate is an image that may go.
type candidate struct {
	id string
	stored
}

// candidates are the images that narwhal brought, least recently used first.
func (s *imageStore) candidates() []candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []candidate
	for id, entry := range s.images {
		if entry.Pulled {
			list = append(list, candidate{id, entry})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.Used.Compare(b.Used) })
	return list
}

func (s *imageStore) isHeld(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id] > 0
}

func (s *imageStore) drop(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, id)
	delete(s.proven, id)
	return s.write()
}

// Images lists the names of the images that the engine has.
func (d *Docker) Images(ctx context.Context) ([]string, error) {
	found, err := d.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var names []string
	for _, i := range found {
		for _, name := range i.RepoTags {
			if name != "<none>:<none>" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Tidy removes images, least recently used first, until want bytes are free or
// none is left that may go: narwhal pulled it, no container has it, and nobody
// else has given it a name. freed is what the images said of their size; layers
// that others share stay.
func (d *Docker) Tidy(ctx context.Context, want int64) (freed int64, err error) {
	containers, err := d.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return 0, fmt.Errorf("tidy images: %w", err)
	}
	busy := make(map[string]bool)
	for _, c := range containers {
		busy[c.ImageID] = true
	}
	var errs []error
	for _, c := range d.store.candidates() {
		if freed >= want {
			break
		}
		if busy[c.id] {
			continue
		}
		size, err := d.removeImage(ctx, c)
		freed += size
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// removeImage gives what it freed: nothing where somebody uses the image.
func (d *Docker) removeImage(ctx context.Context, c candidate) (int64, error) {
	d.tidying.Lock()
	defer d.tidying.Unlock()
	if d.store.isHeld(c.id) {
		return 0, nil
	}
	found, err := d.api.ImageInspect(ctx, c.id)
	if errdefs.IsNotFound(err) {
		return 0, d.store.drop(c.id)
	}
	if err != nil {
		return 0, fmt.Errorf("tidy image %s: %w", c.Names, err)
	}
	for _, tag := range found.RepoTags {
		if !c.named(tag) {
			return 0, nil
		}
	}
	for _, name := range append(found.RepoTags, c.id) {
		_, err := d.api.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		switch {
		case errdefs.IsConflict(err):
			return 0, nil
		case err != nil && !errdefs.IsNotFound(err):
			return 0, fmt.Errorf("tidy image %s: %w", name, err)
		}
	}
	d.log.Info("removed an image that was not used for long", "image", c.Names, "used", c.Used, "bytes", found.Size)
	return found.Size, d.store.drop(c.id)
}

// named reports whether tag is a name by which narwhal asked for the image.
func (c candidate) named(tag string) bool {
	return slices.ContainsFunc(c.Names, func(name string) bool { return name == tag || name+":latest" == tag })
}
