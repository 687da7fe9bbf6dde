package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// forgetAfter is how long a member that is gone stays on the board.
const forgetAfter = 24 * time.Hour

// unnamed begins the key of an address that was learned at joining; the first
// member that answers tells of all.
const unnamed = "joined-"

// Snapshot is the cluster as this node sees it. It never changes.
type Snapshot struct {
	Members []Member // by ID; this node is among them
	Leader  Member   // the one that leads Term, where HasLeader
	Term    uint64
	// HasLeader is false while there is an election, and while this node knows of
	// none. A node that is not in the log learns of it by gossip.
	HasLeader bool
}

// logView is what this node's own Raft knows.
type logView struct {
	InLog  bool // this node is in the configuration
	Leads  bool
	Leader string
	Term   uint64
}

// board is what gossip and Raft have told, and who waits for news.
type board struct {
	self string

	mu      sync.Mutex
	members map[string]Member
	known   map[string]string // last address by node ID, this node's not
	view    logView
	snap    *Snapshot // nil when it has to be made anew
	changed chan struct{}
}

func newBoard(self string, known map[string]string) *board {
	return &board{self: self, members: map[string]Member{}, known: known, changed: make(chan struct{})}
}

// touch wakes all who watch. The lock must be held.
func (b *board) touch() {
	b.snap = nil
	close(b.changed)
	b.changed = make(chan struct{})
}

// memberName is a node's name in gossip. Each start is a member of its own, so
// that a node comes back with another address at once: memberlist would defend
// the old one until it is declared dead.
func memberName(nodeID string, incarnation uint64) string {
	return nodeID + "." + strconv.FormatUint(incarnation, 10)
}

func splitName(name string) (nodeID string, incarnation uint64) {
	nodeID, text, _ := strings.Cut(name, ".")
	incarnation, _ = strconv.ParseUint(text, 10, 64)
	return nodeID, incarnation
}

// see notes what gossip says of a member, and returns its state when that has
// changed. News of an earlier start are old.
func (b *board) see(m Member, now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, there := b.members[m.ID]
	if there && old.Incarnation > m.Incarnation {
		return ""
	}
	if m.State != Alive && (!there || old.Incarnation != m.Incarnation) {
		return ""
	}
	if m.State != Alive && old.Leaving {
		m.State = Left
	}
	m.Since = now
	news := m.State
	if there && old.State == m.State && old.Incarnation == m.Incarnation {
		m.Since, news = old.Since, ""
	}
	b.members[m.ID] = m
	if m.ID != b.self {
		b.known[m.ID] = m.Addr
	}
	if m.ID != b.self && m.State == Alive {
		maps.DeleteFunc(b.known, func(id, _ string) bool { return strings.HasPrefix(id, unnamed) })
	}
	if m.State == Left {
		delete(b.known, m.ID)
	}
	b.touch()
	return news
}

// prune forgets who has been gone for long.
func (b *board) prune(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, m := range b.members {
		if m.State != Alive && now.Sub(m.Since) > forgetAfter {
			delete(b.members, id)
			delete(b.known, id)
			b.touch()
		}
	}
}

// setView reports whether the view is another than before.
func (b *board) setView(v logView) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.view == v {
		return false
	}
	b.view = v
	b.touch()
	return true
}

// watch returns what there is and a channel that closes when there is more.
func (b *board) watch() (Snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.snap == nil {
		s := &Snapshot{Members: slices.SortedFunc(maps.Values(b.members), func(x, y Member) int { return cmp.Compare(x.ID, y.ID) })}
		s.Leader, s.Term, s.HasLeader = b.leader()
		b.snap = s
	}
	return *b.snap, b.changed
}

// leader picks the leader of the highest term that this node's Raft or a member
// that is alive knows of. Of two of one term the one that says it of itself is
// right: a voter may for a moment pair the new term with the old leader.
func (b *board) leader() (Member, uint64, bool) {
	best, own := hint{}, false
	consider := func(h hint, fromItself bool) {
		if h.Leader != "" && (h.Term > best.Term || h.Term == best.Term && fromItself && !own) {
			best, own = h, fromItself
		}
	}
	if b.view.Leader != "" {
		consider(hint{b.view.Leader, b.view.Term}, b.view.Leads)
	}
	for id, m := range b.members {
		if id != b.self && m.State == Alive {
			consider(m.hint, m.hint.Leader == id)
		}
	}
	switch m, there := b.members[best.Leader]; {
	case best.Leader == "":
		return Member{}, 0, false
	case b.view.InLog && b.view.Leader == "" && best.Term <= b.view.Term:
		return Member{}, best.Term, false // an election: the hint is of the leader that was lost
	case !there:
		return Member{ID: best.Leader, Addr: b.known[best.Leader]}, best.Term, b.view.Leader == best.Leader
	case m.State != Alive && b.view.Leader != best.Leader:
		return m, best.Term, false
	default:
		return m, best.Term, true
	}
}

func (b *board) member(id string) (Member, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.members[id]
	return m, ok
}

func (b *board) logView() logView {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view
}

// address is where a node was last.
func (b *board) address(id string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m, ok := b.members[id]; ok {
		return m.Addr, true
	}
	addr, ok := b.known[id]
	return addr, ok
}

// addresses are those of all members that are alive, this node's too.
func (b *board) addresses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, m := range b.members {
		if m.State == Alive {
			out = append(out, m.Addr)
		}
	}
	slices.Sort(out)
	return out
}

// missing are the known addresses of other nodes where none is alive.
func (b *board) missing() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for id, addr := range b.known {
		if m, ok := b.members[id]; !ok || m.State != Alive {
			out = append(out, addr)
		}
	}
	return out
}

// alone reports whether no other node is alive.
func (b *board) alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, m := range b.members {
		if id != b.self && m.State == Alive {
			return false
		}
	}
	return true
}

func (b *board) knownAddresses() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.known)
}
