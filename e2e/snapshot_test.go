package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestSnapshotBringsTheClusterBack loses all three nodes with their disks, and goes on
// from a file on a fourth: what was built is known, secrets open, and others join with
// the token of before.
func TestSnapshotBringsTheClusterBack(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	n, c := follower(t, l), anyNode(t, l)
	r := repository(t)
	file := small + "secrets: [TOKEN]\nsteps: [{command: 'test \"$TOKEN\" = swordfish'}]\n"
	must(t, c.SetSecret(deadline(t, patience), "", "TOKEN", "swordfish"))
	sha := commit(t, r, file)
	before := ended(t, c, trigger(t, c, r, sha).ID)
	wantStatus(t, before, fsm.Passed)

	dir := t.TempDir()
	saved, phrase := filepath.Join(dir, "narwhal.snapshot"), filepath.Join(dir, "phrase")
	must(t, os.WriteFile(phrase, []byte("correct horse battery\n"), 0o600))
	talk := []string{"--addr", n.API, "--data-dir", n.Dir}
	if _, stderr, code := cli(t, nil, append([]string{"snapshot", "save", saved, "--passphrase-file", phrase}, talk...)...); code != 0 {
		t.Fatalf("save: exit status %d, %s", code, stderr)
	}
	if info, err := os.Stat(saved); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	stdout, stderr, code := cli(t, nil, "snapshot", "inspect", saved, "--passphrase-file", phrase, "--json")
	var told struct {
		Builds, Secrets, Nodes int
		ClusterID              string `json:"cluster_id"`
	}
	if code != 0 || json.Unmarshal([]byte(stdout), &told) != nil || told.Builds != 1 || told.Secrets != 1 || told.Nodes != 3 {
		t.Errorf("inspect: exit status %d, %s%s", code, stdout, stderr)
	}

	token, err := os.ReadFile(n.JoinToken())
	must(t, err)
	for _, n := range l.Nodes {
		must(t, n.Kill())
	}
	refusals(t, saved, phrase)
	home := l.Spare(quick...)
	stdout, stderr, code = cli(t, nil, "snapshot", "restore", saved, "--passphrase-file", phrase, "--data-dir", home.Dir, "--yes")
	if code != 0 || !strings.Contains(stdout, told.ClusterID) {
		t.Fatalf("restore: exit status %d, %s%s", code, stdout, stderr)
	}
	must(t, home.Start(deadline(t, patience)))
	c = nodeClient(t, home)
	b, err := c.Build(deadline(t, patience), before.ID)
	must(t, err)
	wantStatus(t, b, fsm.Passed)
	wantStatus(t, ended(t, c, trigger(t, c, r, commit(t, r, file+"# again\n")).ID), fsm.Passed)
	deeds, err := c.Audit(deadline(t, patience), 0, 200)
	must(t, err)
	for i := range deeds.Deeds[1:] { // the newest first
		if newer, older := deeds.Deeds[i], deeds.Deeds[i+1]; newer.Term < older.Term || newer.Index <= older.Index {
			t.Errorf("the log has gone back: %+v after %+v", newer, older)
		}
	}
	if now, err := os.ReadFile(home.JoinToken()); err != nil || string(now) != string(token) {
		t.Errorf("the join token has changed, %v", err)
	}
	old := l.Nodes[0]
	old.Args = append(old.Args, "--join", home.Cluster())
	must(t, old.Launch())
	wantExit(t, old, 78, "recovered without this node")
	damagedSnapshots(t, home)
}

// damagedSnapshots damages the snapshot that a node's log begins from: it is refused, and
// not taken for none.
func damagedSnapshots(t *testing.T, n *lab.Node) {
	must(t, n.Kill())
	for _, name := range []string{"state.bin", "meta.json"} {
		files, err := filepath.Glob(filepath.Join(n.Dir, "raft", "snapshots", "*", name))
		must(t, err)
		if len(files) != 1 {
			t.Fatalf("the node has the snapshots %q", files)
		}
		whole, err := os.ReadFile(files[0])
		must(t, err)
		broken := append([]byte{}, whole...)
		broken[len(broken)/2] ^= 0xff
		must(t, os.WriteFile(files[0], broken, 0o600))
		must(t, n.Launch())
		wantExit(t, n, 78, "damaged")
		must(t, os.WriteFile(files[0], whole, 0o600))
	}
	must(t, n.Start(deadline(t, patience)))
}

// refusals change nothing, and say why.
func refusals(t *testing.T, saved, phrase string) {
	dir := t.TempDir()
	wrong := filepath.Join(t.TempDir(), "wrong")
	must(t, os.WriteFile(wrong, []byte("another passphrase\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no consent":         {[]string{saved, "--passphrase-file", phrase}, 2, "--yes"},
		"another passphrase": {[]string{saved, "--passphrase-file", wrong, "--yes"}, 1, "the passphrase does not open it"},
		"another file":       {[]string{phrase, "--passphrase-file", phrase, "--yes"}, 1, "no snapshot"},
		"none at all":        {[]string{filepath.Join(dir, "none"), "--passphrase-file", phrase, "--yes"}, 1, "no such file"},
	} {
		_, stderr, code := cli(t, nil, append([]string{"snapshot", "restore", "--data-dir", dir}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit status %d, %s", name, code, stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("they left %v, %v", left, err)
	}
}
