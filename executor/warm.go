package executor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// A container made ahead, in a slot: it runs, and its supervisor waits for a job.
// What it has mounted lies in the slot's folder, which is laid out like an attempt's.
//
//	making ──▶ free ──▶ claimed ──▶ taken
//	   └─────────┴─────────┴──▶ doomed
//
// claimed: the slot's folder has become the attempt's by one rename, and holds
// slotFile. taken: the container gets the job's limits, then the attempt's name, and
// is then told to begin. Whoever comes after a crash therefore knows that a container
// without the attempt's name has begun nothing; one that has it and runs, has begun
// if the journal says so; and of one that doesn't run any more nobody knows.
type slot struct {
	id        string
	key       warmKey
	dir       string // its own folder, or the attempt's
	container string // its ID
	shape     string // all that can't be changed any more
	limits    container.Resources
	files     map[string]fs.FileInfo // that are mounted, by path below dir or absolute

	// Under warmPool.mu.
	state slotState
	ref   fsm.AttemptRef // from claimed on
}

type slotState int

const (
	making slotState = iota + 1
	free
	claimed
	taken
	doomed
)

// warmKey tells jobs apart that no container suits both of.
type warmKey struct{ image, objects string }

// warmUse is what a container for the next such job is made from.
type warmUse struct {
	at   time.Time
	task Task // without what is an attempt's own
}

const (
	warmIdle = 10 * time.Minute // after its image's last use a container goes
	maxWarm  = 4                // containers of all images together
	slotFile = "slot.json"
)

// slotSource is the folder of the checkout in an attempt's folder, where it is to be
// for a container made ahead.
const slotSource = "src"

// slotNames are all that is mounted of a slot's folder.
var slotNames = []string{slotSource, supervise.SpecFile, supervise.LogFile, supervise.JournalFile,
	supervise.InDir, supervise.OutDir, supervise.SocketsDir}

// warmPool are the slots of this process. Its loop runs from the first use of an
// image to end.
type warmPool struct {
	dir     string             // of the slots' folders
	perKey  int                // 0 makes none
	offer   pipeline.Resources // of the node to its jobs; 0 is any
	kick    chan struct{}
	loop    sync.WaitGroup
	mu      sync.Mutex
	uses    map[warmKey]warmUse
	slots   map[string]*slot
	running map[fsm.AttemptRef]pipeline.Resources
	starts  int  // that are under way
	scant   bool // the machine lacks room for what nobody has asked for yet
	stop    context.CancelFunc
	shut    bool
}

func newWarmPool(cfg DockerConfig) *warmPool {
	w := &warmPool{dir: cfg.WarmDir, perKey: cfg.Warm, offer: cfg.Offer, kick: make(chan struct{}, 1),
		uses: make(map[warmKey]warmUse), slots: make(map[string]*slot), running: make(map[fsm.AttemptRef]pipeline.Resources)}
	if w.dir == "" {
		w.perKey = 0
	}
	return w
}

// keyOf is for a job that can be run in a container made ahead; ok is false where it
// can't: those beside it need a network and a group that are an attempt's own.
func keyOf(t Task) (key warmKey, ok bool) {
	if t.Work.Spec == nil || hasBeside(t) || t.Workspace != filepath.Join(t.Dir, slotSource) {
		return key, false
	}
	key.image = t.Work.Spec.Image
	if _, err := os.Stat(t.ObjectsDir); err == nil {
		key.objects = t.ObjectsDir
	}
	return key, true
}

// Prepare gives the attempt a container that was made ahead, where there is one that
// suits. The attempt's folder must not be there yet, and is there afterwards if so.
// It is for before all that is put into that folder; Start works without it. release
// is called when Start has returned, or is not to be called.
func (d *Docker) Prepare(t Task) (release func()) {
	key, ok := keyOf(t)
	w := d.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok || w.shut {
		return func() {}
	}
	for _, s := range w.slots {
		if s.state != free || s.key != key {
			continue
		}
		if err := os.Rename(s.dir, t.Dir); err != nil {
			d.log.Debug("claim container made ahead", "attempt", t.Ref.String(), "error", err)
			return func() {}
		}
		s.state, s.ref, s.dir = claimed, t.Ref, t.Dir
		return func() { w.release(s) }
	}
	return func() {}
}

func (w *warmPool) release(s *slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.state == claimed {
		s.state = doomed
		w.nudge()
	}
}

// doom leaves a slot to the loop, which tries until nothing is left of it.
func (w *warmPool) doom(s *slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.state = doomed
	w.nudge()
}

// nudge has the loop look again.
func (w *warmPool) nudge() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// take gives the slot that the attempt has claimed; nil where it has none.
func (w *warmPool) take(ref fsm.AttemptRef) *slot {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.slots {
		if s.state == claimed && s.ref == ref {
			s.state = taken
			return s
		}
	}
	return nil
}

// knows reports whether a container without an attempt's name is this process's, and
// still wanted.
func (w *warmPool) knows(id string, keep func(fsm.AttemptRef) bool) bool {
	w.mu.Lock()
	s := w.slots[id]
	var state slotState
	var ref fsm.AttemptRef
	if s != nil {
		state, ref = s.state, s.ref
	}
	w.mu.Unlock()
	return state == making || state == free || state != 0 && keep(ref)
}

// forget is for a slot of which nothing is left.
func (w *warmPool) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.slots, id)
}
