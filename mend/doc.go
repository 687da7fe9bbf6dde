// Package mend has what jobs left on two nodes again after one of them was lost: the
// leader sees in the replicated state which blobs have too few holders left, asks one
// that is there to give a copy to another, and enters who holds it then. Where the cluster
// has a bucket, it has them put there what is on nodes only: what jobs left before there
// was one, and while it was down.
//
// It doesn't move bytes, nor know where they lie: nodes do, at its word. A copy whose
// bytes have changed is a node's own affair (package blob): it fetches it again.
//
// Invariant: a blob is only said to be held by who has just been given it, or held it
// before and is there.
//
// Start reading at Plan, which decides.
package mend
