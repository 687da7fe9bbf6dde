package fsm

import (
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// noteHead keeps where a push, that was told of, has brought its ref.
func (tx *txn) noteHead(c *AddBuild) {
	p := &c.Commit
	if p.Event != EventPush && p.Event != EventTag || p.Branch() == "" && p.Tag() == "" || c.RetryOf != 0 || p.Fork || p.CloneURL == "" {
		return
	}
	if strings.ContainsRune(p.Repo+p.Ref, 0) {
		return
	}
	next := Remote{Repo: p.Repo, CloneURL: p.CloneURL, Forge: p.Forge, PushedAt: tx.now}
	was, ok := tx.remotes.Get(nameKey(p.Repo))
	switch {
	case ok && c.Missed:
		next = *was
	case ok:
		next.Looked = was.Looked
	case c.Missed:
		return // it was forgotten meanwhile
	default:
		tx.remoteCount++
	}
	tx.remotes.Insert(nameKey(p.Repo), &next)
	known := 0
	if _, there := tx.heads.Get(nameKey(p.Repo, p.Ref)); !there {
		known = tx.countHeads(p.Repo)
	}
	tx.putHead(&Head{Repo: p.Repo, Ref: p.Ref, SHA: p.SHA}, known)
	tx.boundRemotes()
}

// putHead keeps a head, where its repository has room; known is how many it has.
func (tx *txn) putHead(h *Head, known int) (added bool) {
	key := nameKey(h.Repo, h.Ref)
	if _, there := tx.heads.Get(key); !there {
		if known >= MaxRepoHeads {
			return false
		}
		tx.headCount++
		added = true
	}
	tx.heads.Insert(key, h)
	return added
}

func (tx *txn) dropHead(repo, ref string) {
	if _, there := tx.heads.Delete(nameKey(repo, ref)); there {
		tx.headCount--
	}
}

func (tx *txn) countHeads(repo string) (n int) {
	each(tx.heads.Root(), nameKey(repo, ""), func(*Head) { n++ })
	return n
}

// boundRemotes forgets remotes until what is kept is within bounds, but never the one
// that was pushed to just now.
func (tx *txn) boundRemotes() {
	for tx.remoteCount > maxRemotes || tx.headCount > maxHeads && tx.remoteCount > 1 {
		var oldest *Remote
		each(tx.remotes.Root(), nil, func(r *Remote) {
			if oldest == nil || r.PushedAt.Before(oldest.PushedAt) {
				oldest = r
			}
		})
		var refs []string
		each(tx.heads.Root(), nameKey(oldest.Repo, ""), func(h *Head) { refs = append(refs, h.Ref) })
		for _, ref := range refs {
			tx.dropHead(oldest.Repo, ref)
		}
		tx.remotes.Delete(nameKey(oldest.Repo))
		tx.remoteCount--
	}
}

func each[T any](root *iradix.Node[T], prefix []byte, do func(T)) {
	it := root.Iterator()
	it.SeekPrefix(prefix)
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		do(v)
	}
}

// seeHeads takes what a look has shown.
func (tx *txn) seeHeads(c *SeeHeads) error {
	r, ok := tx.remotes.Get(nameKey(c.Repo))
	if !ok || r.CloneURL != c.CloneURL {
		return nil
	}
	known := tx.countHeads(c.Repo)
	for _, seen := range c.Heads {
		was := ""
		if h, ok := tx.heads.Get(nameKey(c.Repo, seen.Ref)); ok {
			was = h.SHA
		}
		if was != seen.Was || was == seen.SHA || strings.ContainsRune(seen.Ref, 0) {
			continue
		}
		if seen.SHA != "" {
			if tx.putHead(&Head{Repo: c.Repo, Ref: seen.Ref, SHA: seen.SHA}, known) {
				known++
			}
			continue
		}
		tx.dropHead(c.Repo, seen.Ref)
		known--
		if branch, ok := strings.CutPrefix(seen.Ref, "refs/heads/"); ok {
			if err := tx.dropSchedules(&DropSchedules{Repo: c.Repo, Branch: branch, By: ByCatchUp, Pending: c.Pending}); err != nil {
				return err
			}
		}
	}
	if c.Done && !r.Looked {
		next := *r
		next.Looked = true
		tx.remotes.Insert(nameKey(c.Repo), &next)
	}
	tx.boundRemotes()
	return nil
}
