package fsm

import "time"

// Blob is a file that nodes keep: an artifact, a cache, a report.
type Blob struct {
	Digest  string   `json:"digest"`            // its SHA-256 in hexadecimal digits
	Size    int64    `json:"size"`              // bytes
	Holders []NodeID `json:"holders,omitempty"` // the nodes that were given it
}

// Artifacts are what an attempt left: one archive of files.
type Artifacts struct {
	Archive  Blob      `json:"archive"` // tar, zstd
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"` // of the files
	ExpireAt time.Time `json:"expire_at,omitzero"`
}

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
