// Package blob is a node's store of files that are named by what is in them: the
// archives of caches and artifacts, and what `narwhal push` brought. Which nodes
// hold a blob, and for whom, is not its business: package fsm keeps that.
//
// Invariants: a blob's name is the SHA-256 of its bytes, and none is taken in under
// a name that its bytes don't have. One is in the store whole or not at all, also
// after a loss of power. None that was used within Config.Floor, is pinned, or waits to be put
// elsewhere, goes to make room.
//
// Disks lie: Verify reads a blob again, and one whose bytes have changed is
// dropped, so that it is fetched from another node the next time.
//
// Start reading at Store; fetch.go brings blobs from other nodes, evict.go makes room, waiting.go
// keeps what nobody else has yet.
package blob
