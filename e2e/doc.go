// Package e2e tests narwhal from outside, as the built binary: clusters of real
// processes on loopback (package internal/lab), a real git repository, and what
// people and forges send. Its tests kill, stop and restart nodes, and look at what
// a step has really done: a file that it appends to, outside of the cluster.
//
// What it tests is the wiring and what only processes have, such as signals,
// sockets and files; the many interleavings are internal/sim's and cluster's.
//
// Invariant: a test waits on the API or on a process with a deadline, and never
// for a length of time alone.
//
// Start reading at TestMain, then lab_test.go.
package e2e
