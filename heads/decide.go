package heads

import (
	"maps"
	"slices"
	"strings"

	"github.com/codepr/narwhal/fsm"
)

// MaxNew is how many refs that are new are built after one look. Many at once are more
// likely a repository that was moved here than work that was missed.
const MaxNew = 20

// Head is what a branch or tag of a remote points at.
type Head struct {
	Ref string // such as "refs/heads/main"
	SHA string // the commit's, also for an annotated tag
}

// Finding is what a look at a remote comes to.
type Finding struct {
	Build []fsm.Commit   // what nobody was told of
	Seen  []fsm.SeenHead // what is to be noted
	Left  int            // new refs that are not built, since there are too many
	Empty bool           // the remote has no refs, where some are known: nothing is believed
}

// Decide compares a remote's heads with those that the state knows, by ref. Where nobody
// was listening for a while, missed is set: what has moved is built, and what is new, but
// for the first look at the remote. Else the look only makes known what there is.
func Decide(r *fsm.Remote, known map[string]string, heads []Head, missed bool) Finding {
	var f Finding
	if len(heads) == 0 && len(known) > 0 {
		f.Empty = true
		return f
	}
	crowded := len(heads) > fsm.MaxRepoHeads // not all are known: what is not may be old
	there := make(map[string]bool, len(heads))
	added := 0
	for _, h := range heads {
		there[h.Ref] = true
		was := known[h.Ref]
		switch {
		case was == h.SHA || was != "" && !missed:
			continue // in the second case somebody is being told of it just now
		case was != "":
			f.Build = append(f.Build, commit(r, h, was))
		case !missed || !r.Looked:
		case crowded || added == MaxNew:
			f.Left++
		default:
			added++
			f.Build = append(f.Build, commit(r, h, ""))
		}
		f.Seen = append(f.Seen, fsm.SeenHead{Ref: h.Ref, Was: was, SHA: h.SHA})
	}
	for _, ref := range slices.Sorted(maps.Keys(known)) {
		if missed && !there[ref] {
			f.Seen = append(f.Seen, fsm.SeenHead{Ref: ref, Was: known[ref]})
		}
	}
	return f
}

// commit is what a webhook would have told, but for what only git knows: its message and
// author come with its plan.
func commit(r *fsm.Remote, h Head, before string) fsm.Commit {
	c := fsm.Commit{Repo: r.Repo, CloneURL: r.CloneURL, Forge: r.Forge, SHA: h.SHA, Ref: h.Ref, Event: fsm.EventPush, Before: before}
	if strings.HasPrefix(h.Ref, "refs/tags/") {
		c.Event = fsm.EventTag
	}
	return c
}
