// Package agent is the forge side: it hears of commits and of branches' ends, hands
// them to the queue, takes them from the queue into the replicated log, and tells
// the world outside what became of them.
//
// It owns the webhooks (Hooks), how a node hands commits to the leader (LeaderQueue and
// Desk), what a commit or deletion from outside may look
// like (CheckCommit, CheckDeletion), the RabbitMQ topology (Broker), and the roads
// over it: Publisher on every node, Consumer and Events on the leader alone. It does
// not own the replicated state: it proposes through a Proposer that cmd passes in.
//
// Invariants:
//
//   - Nothing unsigned is parsed beyond the name of its repository, and nothing is
//     answered 2xx "accepted" before Queue.Publish has returned nil: the commit then is
//     on a majority's disks or confirmed, and routed, by RabbitMQ.
//   - What was signed is in the inbox before it is handed in: what a crash cuts off
//     there is handed in by Hooks.Run.
//   - A message is acknowledged only after the log holds its commit. Whatever
//     dies in between, it is delivered again, and fsm.Commit.Key makes it build
//     once. A deletion that comes again, once its branch was pushed anew, drops
//     nothing.
//   - The key that signs for one repository signs for no other.
//
// Start reading at Hooks (hooks.go), then handin.go, Queue (queue.go), Publisher
// (publisher.go) and Consumer (consumer.go).
package agent
