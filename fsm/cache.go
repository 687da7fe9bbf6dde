package fsm

import (
	"iter"
	"time"
)

// CacheEntry is a cache that was saved under a key.
type CacheEntry struct {
	Repo  string `json:"repo"`
	Scope string `json:"scope"` // whose builds may read it: see CacheScopes
	Key   string `json:"key"`
	Blob  Blob   `json:"blob"` // tar, zstd
	// SavedAt is when its first byte counted; an entry never changes after.
	SavedAt time.Time `json:"saved_at"`
	UsedAt  time.Time `json:"used_at"` // at most an hour behind
}

// CacheScopes are the scopes of a commit's caches: what it may read, and first
// among them the one that it writes. What is pushed to the repository shares one.
// A pull request has its own, and reads its base's, so that it poisons nobody's.
func CacheScopes(c Commit) []string {
	if c.Event == EventPullRequest {
		return []string{"pull/" + c.Ref, scopeTrusted}
	}
	return []string{scopeTrusted}
}

const scopeTrusted = "repo"

// Cache finds what a job restores: the entry of its key in the first scope that
// has it, else for each restore key in turn the newest whose key begins with it,
// the scopes again in their order.
func (s *State) Cache(repo string, scopes []string, key string, restore []string) (CacheEntry, bool) {
	for _, scope := range scopes {
		if e, ok := s.caches.Get(nameKey(repo, scope, key)); ok {
			return *e, true
		}
	}
	for _, prefix := range restore {
		for _, scope := range scopes {
			if e, ok := s.newestCache(nameKey(repo, scope, prefix)); ok {
				return *e, true
			}
		}
	}
	return CacheEntry{}, false
}

func (s *State) newestCache(prefix []byte) (newest *CacheEntry, ok bool) {
	it := s.caches.Root().Iterator()
	it.SeekPrefix(prefix)
	for _, e, more := it.Next(); more; _, e, more = it.Next() {
		if newest == nil || e.SavedAt.After(newest.SavedAt) {
			newest = e
		}
	}
	return newest, newest != nil
}

// Caches yields all caches, by repository, scope and key.
func (s *State) Caches() iter.Seq[*CacheEntry] { return values(s.caches) }
