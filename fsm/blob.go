package fsm

import (
	"iter"
	"strings"
	"time"
)

// Blob is a file that nodes keep: an artifact, a cache, a report.
type Blob struct {
	Digest  string   `json:"digest"`            // its SHA-256 in hexadecimal digits
	Size    int64    `json:"size"`              // bytes
	Holders []NodeID `json:"holders,omitempty"` // the nodes that were given it, and the bucket: see BucketHolder
}

// bucketPrefix begins what names a bucket; no node's ID has a colon.
const bucketPrefix = "bucket:"

// BucketHolder is a bucket in the place of a node among a blob's holders. Its ID is the
// one that the bucket's own mark has.
func BucketHolder(id string) NodeID { return NodeID(bucketPrefix + id) }

// IsBucket reports whether a holder is a bucket.
func (id NodeID) IsBucket() bool { return strings.HasPrefix(string(id), bucketPrefix) }

// Artifacts are what an attempt left: one archive of files.
type Artifacts struct {
	Archive  Blob      `json:"archive"` // tar, zstd
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"` // of the files
	ExpireAt time.Time `json:"expire_at,omitzero"`
}

// BlobKind says what a blob is, and so in which of a node's stores.
type BlobKind string

// The kinds.
const (
	BlobLog     BlobKind = "log"     // an attempt's, sealed
	BlobArchive BlobKind = "archive" // an attempt's artifacts
	BlobCache   BlobKind = "cache"   // of a repository
	BlobBundle  BlobKind = "bundle"  // what `narwhal push` brought for a build
)

// Store is the kind of the blobs that lie in the same store.
func (k BlobKind) Store() BlobKind {
	if k == BlobCache {
		return BlobArchive
	}
	return k
}

// BlobRef is where the state names a blob.
type BlobRef struct {
	Kind  BlobKind `json:"kind"`
	Job   JobID    `json:"job"`             // logs and archives; of a bundle only its Build
	N     int      `json:"n,omitempty"`     // the attempt, of logs and archives
	Repo  string   `json:"repo,omitempty"`  // caches
	Scope string   `json:"scope,omitempty"` // caches
	Key   string   `json:"key,omitempty"`   // caches
}

// Blobs yields every blob that the state names, the newest builds' first, then the
// caches. One that is named twice comes twice.
func (s *State) Blobs() iter.Seq2[BlobRef, Blob] {
	return func(yield func(BlobRef, Blob) bool) {
		for b := range s.Builds(0) {
			if b.Commit.Bundle != "" && !yield(BlobRef{Kind: BlobBundle, Job: JobID{Build: b.ID}}, Blob{Digest: b.Commit.Bundle, Holders: b.Commit.Holders}) {
				return
			}
			for j := range s.Jobs(b.ID) {
				for i := range j.Attempts {
					a := &j.Attempts[i]
					if a.Log != nil && !yield(BlobRef{Kind: BlobLog, Job: j.ID, N: a.N}, *a.Log) {
						return
					}
					if a.Artifacts != nil && !yield(BlobRef{Kind: BlobArchive, Job: j.ID, N: a.N}, a.Artifacts.Archive) {
						return
					}
				}
			}
		}
		for e := range values(s.caches) {
			if !yield(BlobRef{Kind: BlobCache, Repo: e.Repo, Scope: e.Scope, Key: e.Key}, e.Blob) {
				return
			}
		}
	}
}
