// Package bucket keeps blobs in a place that no node's end touches: a bucket of S3,
// Google Cloud Storage or Azure, or a folder that all nodes share. What is put there
// is named by its kind and its SHA-256, as in package blob, which compares the two
// when it takes one in again.
//
// It doesn't own which blobs are in the bucket (the replicated state has the bucket
// among a blob's holders), nor the nodes' own stores.
//
// Invariants: one bucket is one cluster's, as its mark says, so that nobody removes
// what another one needs. No credential is taken from the URL, and none is shown: the
// URL's query is left out of every message. While a bucket fails, one question at a
// time finds out whether it is back; everybody else is told at once.
//
// Start reading at Open; sweep.go removes what is needed no more.
package bucket
