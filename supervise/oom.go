package supervise

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/codepr/narwhal/fsm"
)

// crowd tells whose process was killed for want of memory. The kernel only counts those
// that were, in all of the container: where something else runs beside a command, which
// it was has to be told by other signs.
type crowd struct {
	mu     sync.Mutex
	inside map[*guest]bool
	owned  int // kills of which it is known whose they were
}

func newCrowd() *crowd { return &crowd{inside: make(map[*guest]bool)} }

// guest is a command while it runs.
type guest struct {
	kills, owned int  // when it began
	shared       bool // something else has run meanwhile
}

// enter is for a command that begins.
func (s *site) enter() *guest {
	if s.task.MemoryLimit == "" {
		return nil
	}
	beside := s.crowded()
	_, kills := s.memory()
	c := s.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	g := &guest{kills: kills, owned: c.owned, shared: beside || len(c.inside) > 0}
	for other := range c.inside {
		other.shared = true
	}
	c.inside[g] = true
	return g
}

// crowded reports whether something of the job runs that an earlier step has left.
func (s *site) crowded() bool {
	s.mu.Lock()
	left := slices.ContainsFunc(s.sessions, alive)
	s.mu.Unlock()
	if left || !s.contained() { // a machine always has other processes
		return left
	}
	others, err := Processes()
	return err != nil || len(others) > 0
}

// leave is for a command that has ended so.
func (s *site) leave(g *guest, end ending) ending {
	if g == nil {
		return end
	}
	c := s.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inside, g)
	peak, now := s.memory()
	if end.cause != fsm.CauseFailure || now <= g.kills {
		return end
	}
	switch {
	case !g.shared, end.exit == 128+int(syscall.SIGKILL), end.usage.peak > s.task.MemoryBytes/2 && s.task.MemoryBytes > 0:
		// It had nobody beside it, or it was killed itself, or the largest of its
		// processes was larger than all others together.
		c.owned = min(c.owned+now-g.kills, now)
		return tooMuch(end, s.task.MemoryLimit, peak)
	case now-g.kills > c.owned-g.owned:
		end.message += fmt.Sprintf("; meanwhile a process of the job was killed for going beyond the memory limit of %s, and whether it was this step's can't be told", s.task.MemoryLimit)
	}
	return end
}
