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
