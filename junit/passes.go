package junit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/codepr/narwhal/fsm"
)

// hash stands for a test's name. Of two tests in four billion it is the same.
func hash(suite, name string) uint32 {
	sum := sha256.Sum256([]byte(suite + "\x00" + name))
	return binary.BigEndian.Uint32(sum[:])
}

// passes are the hashes of those that passed and didn't fail, as TestReport.Passes
// holds them, in room bytes. The smallest are kept, so that they are those of the same
// tests in each run.
func (r *Reports) passes(room int) []byte {
	failed := make(map[uint32]bool, len(r.failed))
	for key := range r.failed {
		failed[hash(key[0], key[1])] = true
	}
	all := slices.Clone(r.passed)
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(h uint32) bool { return failed[h] })
	var out []byte
	for _, h := range all[:min(len(all), fsm.MaxPasses, room/4)] {
		out = binary.BigEndian.AppendUint32(out, h)
	}
	return out
}

// passedIn reports whether a test is known to have passed in a run.
func passedIn(r *fsm.TestReport, c *fsm.TestCase) bool {
	want, n := hash(c.Suite, c.Name), len(r.Passes)/4
	at := func(i int) uint32 { return binary.BigEndian.Uint32(r.Passes[4*i:]) }
	i := sort.Search(n, func(i int) bool { return at(i) >= want })
	return i < n && at(i) == want
}
