// Package cluster knows who is here, who leads, and keeps one ordered log. It
// owns a node's identity on disk, the way in by token, the one TCP and UDP port
// of everything that goes from node to node, gossip (memberlist) and Raft. It
// knows nothing of builds: the state machine is passed in as a Machine.
//
// Gossip says who is there and where; it is a hint. Raft says what is true.
// Gossip alone never changes the voter set: the leader does, one change at a
// time, with the pure function decide (voters.go).
//
// # Invariants
//
//   - Only a node with an empty data directory and without hosts to join founds
//     a cluster. A node that joins never does, however long it waits.
//   - No byte of Raft goes to or comes from a node that has not shown a
//     certificate of this cluster and named its ID and generation.
//   - A node that took part in the log and has lost its store is refused: it has
//     forgotten what it voted for.
//   - A function given to WhileLeader is never called again before it returned.
//
// Start reading at Cluster (cluster.go), then identity.go, mux.go, gossip.go,
// raft.go, leader.go and voters.go.
package cluster
