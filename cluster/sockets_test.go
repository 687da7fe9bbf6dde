package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// real is a node's configuration on loopback sockets, with short times.
func real(t testing.TB, name string, join ...*node) Config {
	cfg := Config{
		DataDir: filepath.Join(t.TempDir(), name), Bind: "127.0.0.1:0", Offer: Offer{Name: name, CPU: 2000},
		HeartbeatTimeout: 200 * time.Millisecond, Reconcile: 50 * time.Millisecond, StabilizationTime: 100 * time.Millisecond,
		ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond,
	}
	for _, n := range join {
		cfg.Join, cfg.Token = append(cfg.Join, n.Addr().String()), n.Token()
	}
	return cfg
}

const soon = 20 * time.Second

func threeNodes(t testing.TB) (a, b, c *node) {
	a = start(t, real(t, "a"))
	b = start(t, real(t, "b", a))
	c = start(t, real(t, "c", a))
	for _, n := range []*node{a, b, c} {
		n.untilVoters(3, soon)
	}
	return a, b, c
}

func TestFoundAndJoin(t *testing.T) {
	a := start(t, real(t, "a"))
	a.until("its own leader", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == a.nodeID })
	a.mustApply("one")
	b := start(t, real(t, "b", a))
	b.until("the leader by gossip", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == a.nodeID })
	if b.HasLog() {
		t.Error("the second of two nodes holds the log")
	}
	if got := a.voters(); len(got) != 1 {
		t.Errorf("two nodes have voters %v, want one", got)
	}
	if s := a.Stats().Tolerance; !strings.Contains(s, "not fault tolerant") {
		t.Errorf("two nodes: %q", s)
	}
	c := start(t, real(t, "c", b)) // any member lets a node in
	for _, n := range []*node{a, b, c} {
		n.untilVoters(3, soon)
		n.until("all members", soon, func(s Snapshot) bool { return len(s.Members) == 3 })
		n.until("the entry", soon, func(Snapshot) bool { return slices.Equal(n.journal.all(), []string{"one"}) })
	}
	if _, _, err := b.Apply(t.Context(), []byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("apply at a follower: %v", err)
	}
	index, result, err := a.Apply(t.Context(), []byte("two"))
	if err != nil || result != 2 || index == 0 {
		t.Errorf("apply: index %d, result %v, %v", index, result, err)
	}
	if a.Identity().ClusterID != c.Identity().ClusterID || string(a.Identity().APISecret) != string(c.Identity().APISecret) {
		t.Error("the nodes do not share the cluster's identity")
	}
}

func TestWrongTokenIsRefused(t *testing.T) {
	a := start(t, real(t, "a"))
	id := a.Identity()
	tok := id.token()
	tok.secret = make([]byte, secretSize)
	cfg := real(t, "b", a)
	cfg.Token = tok.String()
	b := open(t, cfg)
	defer b.Close()
	for range maxWrongTokens {
		if err := b.Join(t.Context()); !errors.Is(err, ErrTokenRefused) || !strings.Contains(err.Error(), "the token was refused") {
			t.Fatalf("join with a wrong secret: %v", err)
		}
	}
	// Further tries, even right ones, have to wait.
	b.Cluster.cfg.Token = a.Token()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("join after too many tries: %v", err)
	}
	if id := b.Identity(); id.NodeID != "" {
		t.Errorf("a refused node has identity %s", id.NodeID)
	}
}

func TestForeignTokenIsNotShownTheSecret(t *testing.T) {
	a, x := start(t, real(t, "a")), start(t, real(t, "x"))
	cfg := real(t, "b", a)
	cfg.Token = x.Token()
	b := open(t, cfg)
	defer b.Close()
	err := b.Join(t.Context())
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), a.Identity().ClusterID) {
		t.Errorf("join with another cluster's token: %v", err)
	}
}

func TestJoinItself(t *testing.T) {
	cfg := real(t, "a")
	cfg.Token = token{secret: make([]byte, secretSize)}.String()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bind = probe.Addr().String()
	cfg.Join = []string{cfg.Bind}
	_ = probe.Close()
	a := open(t, cfg)
	defer a.Close()
	if err := a.Join(t.Context()); !errors.Is(err, ErrJoinSelf) {
		t.Errorf("join itself: %v", err)
	}
}

func TestForeignClusterIsRefusedAtRestart(t *testing.T) {
	a, x := start(t, real(t, "a")), start(t, real(t, "x"))
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	cfg := a.cfg
	cfg.Join = []string{x.Addr().String()}
	again := open(t, cfg)
	defer again.Close()
	err := again.Join(t.Context())
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), a.Identity().ClusterID) || !strings.Contains(err.Error(), x.Identity().ClusterID) {
		t.Errorf("join another cluster: %v", err)
	}
	again.Close()
	cfg.Token = x.Token()
	if _, err := Open(cfg, &journal{}, testLog(t)); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster's token: %v", err)
	}
}

func TestLeaderStops(t *testing.T) {
	a, b, c := threeNodes(t)
	old := leaderOf(t, soon, a, b, c)
	old.mustApply("before")
	if err := old.stop(); err != nil {
		t.Fatalf("stop leader: %v", err)
	}
	rest := slices.DeleteFunc([]*node{a, b, c}, func(n *node) bool { return n == old })
	for _, n := range rest {
		n.until("a new leader", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID != old.nodeID })
	}
	next := leaderOf(t, soon, rest...)
	next.mustApply("after")
	next.until("3 voters still", soon, func(Snapshot) bool { return len(next.voters()) == 3 })

	// It comes back on another port, with the same identity.
	cfg := old.cfg
	back := start(t, cfg)
	if back.Addr().String() == old.Addr().String() {
		t.Fatal("the port is the same: this tests nothing")
	}
	back.until("what it missed", soon, func(Snapshot) bool { return slices.Equal(back.journal.all(), []string{"before", "after"}) })
	next.until("the new address", soon, func(s Snapshot) bool {
		m, _ := next.board.member(back.nodeID)
		return m.State == Alive && m.Addr == back.Addr().String() && m.Incarnation == old.Identity().Incarnation+1
	})
}

func TestAllRestartWithOtherPorts(t *testing.T) {
	a, b, c := threeNodes(t)
	leaderOf(t, soon, a, b, c).mustApply("kept")
	for _, n := range []*node{a, b, c} {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	a2 := start(t, a.cfg)
	cfgB, cfgC := b.cfg, c.cfg
	cfgB.Join, cfgB.Token = []string{a2.Addr().String()}, ""
	cfgC.Join, cfgC.Token = cfgB.Join, ""
	b2, c2 := start(t, cfgB), start(t, cfgC)
	leader := leaderOf(t, soon, a2, b2, c2)
	leader.mustApply("more")
	for _, n := range []*node{a2, b2, c2} {
		n.until("both entries", soon, func(Snapshot) bool { return slices.Equal(n.journal.all(), []string{"kept", "more"}) })
	}
}

func TestPortWantsThisClustersCertificate(t *testing.T) {
	a, x := start(t, real(t, "a")), start(t, real(t, "x"))
	lane := a.Listener("test")
	defer lane.Close()
	id := x.Identity()
	foreign, err := newCredentials(&id)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string][]tls.Certificate{"none": nil, "another cluster's": {foreign.cert}} {
		for _, alpn := range []string{alpnRaft, alpnGossip, alpnPeer, "test"} {
			for _, protos := range [][]string{{alpn}, {alpnJoin, alpn}} {
				if err := readFrom(a.Addr().String(), protos, cert); err == nil {
					t.Errorf("certificate %s got through to %v", name, protos)
				}
			}
		}
	}
	if _, err := x.mux.dial(t.Context(), a.Addr().String(), alpnRaft, ""); !errors.Is(err, ErrForeign) {
		t.Errorf("dial another cluster's node: %v", err)
	}
}

// readFrom returns nil when a server lets the client in.
func readFrom(addr string, protos []string, certs []tls.Certificate) error {
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protos, Certificates: certs})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 a client hears of a refusal only now
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil // connected, and the server waits for us to speak
	}
	return err
}

func TestDialNode(t *testing.T) {
	a := start(t, real(t, "a"))
	b := start(t, real(t, "b", a))
	b.until("a", soon, func(s Snapshot) bool { return len(s.Members) == 2 })
	lane := a.Listener("echo")
	conn, err := b.DialNode(t.Context(), a.nodeID, "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, err := lane.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if PeerID(in) != b.nodeID || PeerID(conn) != a.nodeID {
		t.Errorf("peers %q and %q", PeerID(in), PeerID(conn))
	}
	if addr, ok := in.RemoteAddr().(PeerAddr); !ok || addr.NodeID != b.nodeID {
		t.Errorf("remote address %#v", in.RemoteAddr())
	}
	if _, err := b.mux.dial(t.Context(), a.Addr().String(), "echo", b.nodeID); err == nil {
		t.Error("a node that answers for another was not noticed")
	}
	if _, err := b.DialNode(t.Context(), "0000000000000000", "echo"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("dial nobody: %v", err)
	}
}

func TestLeave(t *testing.T) {
	a := start(t, real(t, "a"))
	a.until("a leader", soon, func(s Snapshot) bool { return s.HasLeader })
	if err := a.Leave(t.Context()); !errors.Is(err, ErrAlone) {
		t.Errorf("the only node leaves: %v", err)
	}
	a.mustApply("one")
	b := start(t, real(t, "b", a))
	b.until("the leader", soon, func(s Snapshot) bool { return s.HasLeader })
	a.until("b", soon, func(s Snapshot) bool { return len(s.Members) == 2 })
	if err := a.Leave(t.Context()); err != nil {
		t.Fatalf("leave: %v", err)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	b.until("to be the leader", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == b.nodeID })
	b.untilVoters(1, soon)
	b.mustApply("two")
	b.until("a gone for good", soon, func(s Snapshot) bool {
		m, _ := b.board.member(a.nodeID)
		return m.State == Left
	})
	if _, err := Open(a.cfg, &journal{}, testLog(t)); !errors.Is(err, ErrLeft) {
		t.Errorf("start after leaving: %v", err)
	}
	cfg := a.cfg
	cfg.Join = []string{b.Addr().String()} // as a unit file may say: it is no way back without a token
	for token, want := range map[string]error{"": ErrLeft, "NWL1-nonsense": ErrToken} {
		cfg.Token = token
		if _, err := Open(cfg, &journal{}, testLog(t)); !errors.Is(err, want) {
			t.Errorf("start after leaving, to join with the token %q: %v", token, err)
		}
		if id, err := loadIdentity(cfg.DataDir); err != nil || id == nil {
			t.Errorf("the identity of a node that left is gone with nothing in its place: %v, %v", id, err)
		}
	}
	cfg.Token = b.Token()
	again := start(t, cfg)
	if again.nodeID == a.nodeID {
		t.Error("a node that left came back as the same")
	}
}

func TestRecover(t *testing.T) {
	a, b, c := threeNodes(t)
	leaderOf(t, soon, a, b, c).mustApply("one")
	a.until("the entry", soon, func(Snapshot) bool { return len(a.journal.all()) == 1 })
	d := start(t, real(t, "d", a)) // never holds the log
	d.until("the leader", soon, func(s Snapshot) bool { return s.HasLeader && len(s.Members) == 4 })
	for _, n := range []*node{a, b, c, d} {
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
	id, err := Recover(a.cfg, &journal{}, testLog(t))
	if err != nil || id.Generation != 2 {
		t.Fatalf("recover: generation %d, %v", id.Generation, err)
	}
	a2 := start(t, a.cfg)
	a2.until("to lead alone", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == a.nodeID })
	a2.mustApply("two")
	if got := a2.journal.all(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("after recovery: %q", got)
	}
	cfg := d.cfg
	cfg.Join = []string{a2.Addr().String()}
	d2 := start(t, cfg)
	d2.until("the new generation", soon, func(s Snapshot) bool { return s.HasLeader && d2.Identity().Generation == 2 })
	cfg = b.cfg
	cfg.Join = []string{a2.Addr().String()}
	b2 := start(t, cfg)
	if err := <-b2.done; !errors.Is(err, ErrSuperseded) {
		t.Errorf("a voter of before the recovery: %v", err)
	}
	b2.done <- nil
}

func TestPoisonStopsTheNode(t *testing.T) {
	a := start(t, real(t, "a"))
	a.until("a leader", soon, func(s Snapshot) bool { return s.HasLeader })
	a.mustApply("one")
	if _, _, err := a.Apply(t.Context(), []byte("poison")); !errors.Is(err, ErrMachine) || !errors.Is(err, errPoison) {
		t.Errorf("apply poison: %v", err)
	}
	if err := <-a.done; !errors.Is(err, ErrMachine) {
		t.Errorf("run ended with %v", err)
	}
	a.done <- nil
	if got := a.journal.all(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("applied %q", got)
	}
}
