// Package sched decides which job runs where. It owns Plan, the pure placement
// of queued jobs on nodes; the leases, by which the leader knows which nodes are
// there; the Stopwatch and the Calendar, by which it knows whose time is up and
// what the clock starts; Evictions, which empties drained nodes in time; Work, which is what a node is given to run an attempt;
// and the Dispatcher, the leader's loop around them. It does not own the log nor
// the transport, and it does no slow I/O: it waits, decides and proposes.
//
// Invariant: for the state that it was given, Plan proposes nothing that Apply
// would refuse.
//
// Start reading at Plan (plan.go), then Decide and Dispatcher (dispatch.go), and
// Leases (lease.go).
package sched
