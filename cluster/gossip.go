package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	peersFile    = "peers.json"
	rejoinAlone  = 2 * time.Second        // between tries while no other node is alive
	rejoinOthers = 10 * time.Second       // between looks for members that are missing
	maxRejoin    = 3                      // addresses a try
	tellTimeout  = 100 * time.Millisecond // for a first member to have been told; the others hear of it anyway
)

// gossip keeps the board up to date, and tells the others of this node.
type gossip struct {
	cfg       Config
	log       *slog.Logger
	clusterID string
	board     *board
	self      func() Member
	list      *memberlist.Memberlist
	seen      func(Member)  // is told of every announcement; must not block
	apart     func(error)   // is told of nodes that this one can't talk to; must not block
	news      chan struct{} // of self, one slot
}

func newGossip(cfg Config, id Identity, b *board, self func() Member, seen func(Member), apart func(error), t *transport, log *slog.Logger) (*gossip, error) {
	g := &gossip{cfg: cfg, log: log, clusterID: id.ClusterID, board: b, self: self, seen: seen, apart: apart, news: make(chan struct{}, 1)}
	if _, err := encodeMeta(g.clusterID, self()); err != nil {
		return nil, err
	}
	c := memberlist.DefaultLANConfig()
	c.Name = memberName(id.NodeID, id.Incarnation)
	c.Transport = t
	c.BindPort, c.AdvertisePort = int(t.addr.Port()), int(t.addr.Port())
	c.Label = id.ClusterID
	c.SecretKey = id.GossipKey
	c.ProbeInterval, c.ProbeTimeout = cfg.ProbeInterval, cfg.ProbeTimeout
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = 5 * time.Second
	c.Delegate, c.Events, c.Merge, c.Alive, c.Conflict = g, g, g, g, g
	c.LogOutput = memberlistLog{log: log}
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	g.list = list
	return g, nil
}

// NodeMeta is memberlist's question for this node's announcement.
func (g *gossip) NodeMeta(int) []byte {
	body, err := encodeMeta(g.clusterID, g.self())
	if err != nil {
		g.log.Error("announce this node", "err", err)
	}
	return body
}

func (g *gossip) NotifyMsg([]byte)                {}
func (g *gossip) GetBroadcasts(_, _ int) [][]byte { return nil }
func (g *gossip) LocalState(bool) []byte          { return nil }
func (g *gossip) MergeRemoteState([]byte, bool)   {}

// NotifyMerge refuses another cluster's members. The label and key do so too,
// but without saying why.
func (g *gossip) NotifyMerge(peers []*memberlist.Node) error {
	for _, p := range peers {
		if err := g.check(p); err != nil {
			g.log.Error("refused to merge", "node", p.Name, "err", err)
			return err
		}
	}
	return nil
}

// NotifyAlive is the same check for what comes by other ways than joining.
func (g *gossip) NotifyAlive(p *memberlist.Node) error { return g.check(p) }

func (g *gossip) check(p *memberlist.Node) error {
	m, err := decodeMeta(p.Meta)
	if err != nil {
		return err
	}
	if m.Cluster != g.clusterID {
		return foreignError(g.clusterID, m.Cluster)
	}
	if err := g.cfg.Offer.reaches(m.member().Offer); err != nil {
		g.apart(err)
		return err
	}
	return nil
}

func (g *gossip) NotifyJoin(n *memberlist.Node)   { g.note(n, Alive) }
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.note(n, Alive) }

func (g *gossip) NotifyLeave(n *memberlist.Node) { g.note(n, Dead) }

// NotifyConflict hears of two nodes of one name, which a start of its own has.
func (g *gossip) NotifyConflict(old, other *memberlist.Node) {
	g.log.Error("two processes run as one node: is a data directory a copy?", "node", old.Name, "at", old.Address(), "and", other.Address())
	if id, incarnation := splitName(old.Name); id == g.board.self {
		g.seen(Member{ID: id, Addr: other.Address(), Incarnation: incarnation, State: Alive})
	}
}

func (g *gossip) note(n *memberlist.Node, state State) {
	announced, err := decodeMeta(n.Meta)
	if err != nil {
		g.log.Warn("read announcement", "node", n.Name, "err", err)
		return
	}
	m := announced.member()
	m.ID, m.Incarnation = splitName(n.Name)
	m.Addr, m.State = n.Address(), state
	if state == Dead && m.stopping {
		m.State = Stopped
	}
	if m.ID == g.board.self {
		m.Offer.Labels = g.cfg.Offer.Labels
	}
	g.seen(m)
	if news := g.board.see(m, time.Now()); news != "" && m.ID != g.board.self {
		g.log.Info("member is "+string(news), "node", m.ID, "name", m.Offer.Name, "addr", m.Addr)
	}
}

// tell has the others hear that self is another than before.
func (g *gossip) tell() {
	select {
	case g.news <- struct{}{}:
	default:
	}
}

func (g *gossip) tellLoop(ctx context.Context) error {
	for {
		select {
		case <-g.news:
			if err := g.list.UpdateNode(tellTimeout); err != nil {
				g.log.Debug("announce this node", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// joinLoop looks for members that are not here: after a start, and after a
// partition, which memberlist does not heal once it has forgotten the dead.
func (g *gossip) joinLoop(ctx context.Context) error {
	told := time.Now()
	for {
		addrs := g.missing(ctx)
		if len(addrs) > 0 {
			if n, err := g.list.Join(addrs); n == 0 {
				g.log.Debug("look for members", "err", err)
			}
		}
		pause := rejoinOthers
		if len(addrs) > 0 && g.board.alone() {
			pause = rejoinAlone
			if time.Since(told) >= 10*time.Second {
				told = time.Now()
				g.log.Warn("no other member answers, still trying", "peers", addrs)
			}
		}
		if !wait(ctx, pause) {
			return nil
		}
	}
}

// missing is a few addresses, at random, where no member is known to be alive.
func (g *gossip) missing(ctx context.Context) []string {
	want := map[string]bool{}
	for _, addr := range g.board.missing() {
		want[addr] = true
	}
	for _, host := range g.cfg.Join {
		addrs, err := g.cfg.Network.Resolve(ctx, host)
		if err != nil {
			g.log.Debug("look for members", "err", err)
		}
		for _, addr := range addrs {
			want[addr] = true
		}
	}
	for _, addr := range g.board.addresses() {
		delete(want, addr)
	}
	var out []string
	for addr := range maps.Keys(want) { // in random order
		if len(out) < maxRejoin {
			out = append(out, addr)
		}
	}
	return out
}

// saveLoop keeps the members' addresses on disk for the next start.
func (g *gossip) saveLoop(ctx context.Context) error {
	saved := g.board.knownAddresses()
	for {
		_, changed := g.board.watch()
		g.board.prune(time.Now())
		if known := g.board.knownAddresses(); !maps.Equal(known, saved) {
			if err := savePeers(g.cfg.DataDir, known); err != nil {
				g.log.Warn("keep the members' addresses", "err", err)
			}
			saved = known
		}
		select {
		case <-changed:
			if !wait(ctx, time.Second) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func savePeers(dir string, known map[string]string) error {
	text, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return fmt.Errorf("marshal peers: %w", err)
	}
	if err := writeFile(filepath.Join(dir, peersFile), text); err != nil {
		return fmt.Errorf("write peers: %w", err)
	}
	return nil
}

// loadPeers reads what savePeers wrote. A damaged file is no reason not to
// start: it holds hints.
func loadPeers(dir string, log *slog.Logger) map[string]string {
	known := map[string]string{}
	text, err := os.ReadFile(filepath.Join(dir, peersFile))
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("read the members' addresses", "err", err)
	}
	if known == nil {
		known = map[string]string{}
	}
	return known
}
