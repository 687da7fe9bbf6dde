// Package sched decides which job runs where. It owns Plan, the pure placement
// of queued jobs on nodes; the leases, by which the leader knows which nodes are
// there; and the Dispatcher, the leader's loop around both. It does not own the
// log nor the transport, and it does no slow I/O: it waits, decides and proposes.
//
// Invariant: for the state that it was given, Plan proposes nothing that Apply
// would refuse.
//
// Start reading at Plan (plan.go), then Leases (lease.go) and Dispatcher
// (dispatch.go).
package sched
