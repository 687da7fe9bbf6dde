package executor

import (
	"net/netip"
	"testing"
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestPoolGivesEveryAddressOnce(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.213.0.0/21"), "node")
	used := prefixes("10.213.1.0/24", "0.0.0.0/32")
	for range 128 - 16 {
		got, err := p.take(jobBits, used)
		if err != nil {
			t.Fatal(err)
		}
		if overlapsAny(got, used) || !p.all.Overlaps(got) || got.Masked() != got {
			t.Fatalf("got %s", got)
		}
		used = append(used, got)
	}
	if got, err := p.take(jobBits, used); err == nil {
		t.Errorf("got %s of a full pool", got)
	}
	if got, err := p.take(nodeBits, prefixes("10.213.0.0/28")); err != nil || got.String() != "10.213.4.0/22" {
		t.Errorf("a larger one: %s, %v", got, err)
	}
}

func TestRoute(t *testing.T) {
	for line, want := range map[[8]string]string{
		{"eth0", "000200C0", "0", "0", "0", "0", "0", "00FFFFFF"}: "192.0.2.0/24",
		{"eth0", "00000000", "0", "0", "0", "0", "0", "00000000"}: "",
		{"Iface", "Destination", "", "", "", "", "", "Mask"}:      "",
	} {
		got, ok := route(line[:])
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%v: got %s, %t", line, got, ok)
		}
	}
	if _, ok := route(nil); ok {
		t.Error("an empty line is a route")
	}
}

func TestRegistryOf(t *testing.T) {
	for name, want := range map[string]string{
		"alpine": "docker.io", "acme/api": "docker.io", "acme/api:1.0": "docker.io", "localhost/x": "localhost",
		"registry.example:5000/x": "registry.example:5000", "registry.example/x@sha256:00": "registry.example", "127.0.0.1:5000/a/b:c": "127.0.0.1:5000",
	} {
		if got := registryOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestHasQuota(t *testing.T) {
	mounts := "/dev/a / ext4 rw,relatime 0 0\n/dev/b /var/lib xfs rw,prjquota 0 0\n/dev/c /var/lib/docker2 xfs rw 0 0\n"
	for dir, want := range map[string]bool{"/var/lib/docker": true, "/var/lib": true, "/var/lib/docker2": false, "/data": false} {
		if got := hasQuota(mounts, dir); got != want {
			t.Errorf("%s: %t", dir, got)
		}
	}
}

func TestStoreTellsWhoMayUseAnImage(t *testing.T) {
	dir := t.TempDir()
	open := func() *imageStore {
		s, err := openStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, nothing, right, wrong := open(), proof{}, Credentials{"u", "p"}.proof("r"), Credentials{"u", "q"}.proof("r")
	if !s.allows("public", nothing) {
		t.Error("of what is not known everybody may have it")
	}
	if err := s.add("secret", stored{Names: []string{"r/x"}, Pulled: true, Private: true}, right); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    *imageStore
		p    proof
		want bool
	}{
		"nobody": {s, nothing, false}, "others": {s, wrong, false}, "the one": {s, right, true},
		"nobody after a restart": {open(), nothing, false}, "the one after a restart, who has to show it again": {open(), right, false},
	} {
		if got := c.s.allows("secret", c.p); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if err := s.add("secret", stored{Names: []string{"r/x"}}, nothing); err != nil { // the registry gave it to somebody without
		t.Fatal(err)
	}
	if !s.allows("secret", nothing) {
		t.Error("what the registry gives to everybody is no secret")
	}
}
