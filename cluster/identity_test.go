package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStartIsDecidedByTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	cfg := Config{DataDir: dir, Bind: "127.0.0.1:0"}
	a := open(t, cfg)
	id := a.Identity()
	if id.NodeID == "" || !strings.HasPrefix(a.Token(), "NWL1-") || id.Incarnation != 1 {
		t.Errorf("a founder has no token right after Open: %q, incarnation %d", a.Token(), id.Incarnation)
	}
	info, err := os.Stat(filepath.Join(dir, identityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("identity's mode: %v, %v", info.Mode(), err)
	}
	if _, err := Open(cfg, &journal{}, testLog(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("second process: %v", err)
	}
	a.Close()
	again := open(t, cfg)
	if got := again.Identity(); got.NodeID != id.NodeID || got.ClusterID != id.ClusterID || got.Incarnation != 2 {
		t.Errorf("restart: node %s of %s, incarnation %d", got.NodeID, got.ClusterID, got.Incarnation)
	}
	again.Close()
}

func TestStartIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, cfg *Config)
		want error
	}{
		{"a log without an identity", func(t *testing.T, cfg *Config) {
			writeTestFile(t, filepath.Join(cfg.DataDir, raftDir, storeFile), "x")
		}, ErrDamaged},
		{"an identity that is cut off", func(t *testing.T, cfg *Config) {
			writeTestFile(t, filepath.Join(cfg.DataDir, identityFile), `{"node_id": "00`)
		}, ErrDamaged},
		{"an identity without what matters", func(t *testing.T, cfg *Config) {
			writeTestFile(t, filepath.Join(cfg.DataDir, identityFile), `{"node_id": "00"}`)
		}, ErrDamaged},
		{"a log that is gone", func(t *testing.T, cfg *Config) {
			id, err := found()
			if err != nil {
				t.Fatal(err)
			}
			id.Logged, id.Founding = true, false
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := id.save(cfg.DataDir); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		{"joining without a token", func(_ *testing.T, cfg *Config) { cfg.Join = []string{"127.0.0.1:1"} }, ErrToken},
		{"joining with half a token", func(_ *testing.T, cfg *Config) {
			cfg.Join, cfg.Token = []string{"127.0.0.1:1"}, "NWL1-abc"
		}, ErrToken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{DataDir: filepath.Join(t.TempDir(), "d"), Bind: "127.0.0.1:0"}
			tc.make(t, &cfg)
			c, err := Open(cfg, &journal{}, testLog(t))
			if !errors.Is(err, tc.want) {
				t.Errorf("open: %v, want %v", err, tc.want)
			}
			if c != nil {
				c.Close()
			}
			if _, err := lockDir(cfg.DataDir); err != nil {
				t.Errorf("the directory stays locked: %v", err)
			}
		})
	}
}

// TestFoundingIsResumed starts a founder that died before its log was there.
func TestFoundingIsResumed(t *testing.T) {
	cfg := real(t, "a")
	a := open(t, cfg)
	a.Close() // the identity is written, the log is not
	again := start(t, cfg)
	again.until("to lead", soon, func(s Snapshot) bool { return s.HasLeader })
	if id := again.Identity(); id.Founding || !id.Logged {
		t.Errorf("founding %v, logged %v", id.Founding, id.Logged)
	}
}

func TestHello(t *testing.T) {
	ours := hello{Cluster: "c", Generation: 2, Node: "a"}
	for _, tc := range []struct {
		name   string
		theirs hello
		want   error
	}{
		{"same", hello{"c", 2, "b"}, nil},
		{"another cluster", hello{"d", 2, "b"}, ErrForeign},
		{"an older generation", hello{"c", 1, "b"}, ErrSuperseded},
		{"a newer generation", hello{"c", 3, "b"}, ErrSuperseded},
	} {
		if err := ours.check(tc.theirs, "b"); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if err := ours.check(hello{"c", 2, "x"}, "b"); err == nil {
		t.Error("a node that names another than its certificate was let in")
	}
}

func TestTwinIsNoticed(t *testing.T) {
	a := start(t, real(t, "a"))
	b := start(t, real(t, "b", a))
	b.until("a", soon, func(s Snapshot) bool { return len(s.Members) == 2 })
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(b.cfg.DataDir)); err != nil {
		t.Fatal(err)
	}
	cfg := b.cfg
	cfg.DataDir = copied
	start(t, cfg)
	if err := <-b.done; !errors.Is(err, ErrTwin) {
		t.Errorf("a copy runs: %v", err)
	}
	b.done <- nil
}

func TestMetaFits(t *testing.T) {
	m := Member{Generation: 1 << 40, Role: RoleVoterOnly, Leaving: true, InLog: true, stopping: true, Started: time.Unix(1<<33, 0),
		hint: hint{"0123456789abcdef", 1 << 60}, Load: Load{1 << 20, 1 << 50, 1 << 60, true, "0123456789ab", true, 1000},
		Offer: Offer{Name: strings.Repeat("ü", 200), APIAddr: strings.Repeat("h", 200), Version: strings.Repeat("v", 99), Protocol: 1 << 31, Oldest: 1 << 31, State: 1 << 31,
			CPU: 1 << 60, Memory: 1 << 60, Disk: 1 << 60, OS: strings.Repeat("o", 99), Arch: strings.Repeat("a", 99), Zone: strings.Repeat("z", 99)}}
	for _, labels := range []map[string]string{nil, {"gpu": "a100"}, {"much": strings.Repeat("x", 400)}} {
		m.Offer.Labels = labels
		body, err := encodeMeta("0123456789abcdef0123456789abcdef", m)
		if err != nil || len(body) > metaMax {
			t.Fatalf("labels %v: %d bytes, %v", labels, len(body), err)
		}
		got, err := decodeMeta(body)
		if err != nil {
			t.Fatal(err)
		}
		if len(labels) > 0 && len(got.Labels) == 0 && got.LabelsHash != hashLabels(labels) {
			t.Errorf("labels %v are neither there nor hashed", labels)
		}
	}
	m.Offer = Offer{Name: "short", Labels: map[string]string{"gpu": "a100"}}
	body, err := encodeMeta("0123456789abcdef0123456789abcdef", m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeMeta(body); err != nil || got.Labels["gpu"] != "a100" {
		t.Errorf("labels that fit: %v, %v", got.Labels, err)
	}
}

func FuzzToken(f *testing.F) {
	f.Add(token{secret: make([]byte, secretSize)}.String())
	f.Add("NWL1-x-y")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := parseToken(text)
		if err != nil {
			return
		}
		again, err := parseToken(tok.String())
		if err != nil || again.digest != tok.digest || string(again.secret) != string(tok.secret) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
