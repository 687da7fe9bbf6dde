package fsm

import (
	"fmt"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// How many caches are kept. Beyond it the least recently used go.
const (
	maxCaches     = 10_000
	maxRepoCaches = 1_000
)

func (tx *txn) saveCache(c *SaveCache) error {
	e := c.Entry
	if e.Repo == "" || e.Scope == "" || e.Key == "" || e.Blob.Digest == "" || strings.ContainsRune(e.Repo+e.Scope+e.Key, 0) {
		return fmt.Errorf("%w: a cache wants a repository, a scope, a key and a blob", ErrInvalid)
	}
	key := nameKey(e.Repo, e.Scope, e.Key)
	if _, ok := tx.caches.Get(key); ok {
		return nil
	}
	e.SavedAt, e.UsedAt = tx.now, tx.now
	tx.putCache(&e)
	tx.evict(nameKey(e.Repo, ""), maxRepoCaches, key)
	if tx.cached > maxCaches {
		tx.evict(nil, maxCaches, key)
	}
	return nil
}

func (tx *txn) putCache(e *CacheEntry) {
	tx.caches.Insert(nameKey(e.Repo, e.Scope, e.Key), e)
	tx.cached++
}

// evict lets the least recently used caches below prefix go, but never the one
// that was just saved, until there are limit.
func (tx *txn) evict(prefix []byte, limit int, saved []byte) {
	for {
		n, oldest := leastUsed(tx.caches.Root(), prefix, string(saved))
		if n <= limit || oldest == nil {
			return
		}
		tx.caches.Delete(oldest)
		tx.cached--
	}
}

// leastUsed counts the caches below prefix and finds the one to go first.
func leastUsed(caches *iradix.Node[*CacheEntry], prefix []byte, but string) (n int, oldest []byte) {
	it := caches.Iterator()
	it.SeekPrefix(prefix)
	var first *CacheEntry
	for k, e, ok := it.Next(); ok; k, e, ok = it.Next() {
		n++
		if string(k) != but && (first == nil || e.UsedAt.Before(first.UsedAt)) {
			first, oldest = e, k
		}
	}
	return n, oldest
}

func (tx *txn) useCache(c *UseCache) error {
	key := nameKey(c.Repo, c.Scope, c.Key)
	if old, ok := tx.caches.Get(key); ok && tx.now.After(old.UsedAt) {
		next := *old
		next.UsedAt = tx.now
		tx.caches.Insert(key, &next)
	}
	return nil
}

func (tx *txn) dropCache(c *DropCache) error {
	key := nameKey(c.Repo, c.Scope, c.Key)
	if old, ok := tx.caches.Get(key); ok && old.Blob.Digest == c.Digest {
		tx.caches.Delete(key)
		tx.cached--
	}
	return nil
}
