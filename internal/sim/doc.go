// Package sim runs whole narwhal clusters in one goroutine, from a seed: the
// clock, the network, the disks and every fault are drawn from it, so that a
// failure is had again by its number.
//
// It owns a model of what is around the pure parts: raft as one committed log
// with followers that lag and leaders that have not noticed that they are none,
// streams that delay, stall and break, a runner with a durable ledger and
// containers that outlive its process. The parts under test are the real ones:
// fsm (Apply, the codec, snapshots), sched (Decide, Leases, Announce, Forgotten,
// Wanted) and runner (Reconcile, Settle). Elections, gossip and a node that is
// shut down in order are not modelled.
//
// Invariant: a Run is a function of its Options alone. No map is ranged over
// where order matters, and nothing reads a clock.
//
// Start reading at Run (world.go); what must hold is in check.go and end.go, what can
// be broken on purpose in bugs.go.
package sim
