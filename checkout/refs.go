package checkout

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
)

// ref is a name and what it points at.
type ref struct{ name, oid string }

// clonedRefs are the mirror's branches and tags under the names that a clone gives
// them, sorted. They are read once and kept until a fetch.
func (m *mirror) clonedRefs(ctx context.Context) ([]ref, error) {
	m.refsMu.Lock()
	defer m.refsMu.Unlock()
	if m.refs != nil {
		return m.refs, nil
	}
	var out bytes.Buffer
	err := m.git.run(ctx, call{gitDir: m.dir, stdout: &out},
		"for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/")
	if err != nil {
		return nil, locally(err)
	}
	refs := []ref{}
	for line := range strings.Lines(out.String()) {
		oid, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if branch, found := strings.CutPrefix(name, "refs/heads/"); found {
			name = "refs/remotes/origin/" + branch
		}
		refs = append(refs, ref{name, oid})
	}
	m.refs = refs
	return refs, nil
}

// forgetRefs is called when a fetch may have changed them.
func (m *mirror) forgetRefs() {
	m.refsMu.Lock()
	defer m.refsMu.Unlock()
	m.refs = nil
}

// packRefs writes git's packed-refs file; own wins over known, and over those
// that git can't have beside it: a name is a ref or a folder of refs.
func packRefs(known []ref, own map[string]string) string {
	all := make(map[string]string, len(known)+len(own))
	for _, r := range known {
		all[r.name] = r.oid
	}
	for name := range own {
		maps.DeleteFunc(all, func(other, _ string) bool {
			return strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/")
		})
	}
	maps.Copy(all, own)
	var b strings.Builder
	b.WriteString("# pack-refs with: sorted \n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(all[name] + " " + name + "\n")
	}
	return b.String()
}
