package agent

import "errors"

var (
	// ErrUnavailable is returned when the queue could not take a commit now: the
	// broker is away, or did not confirm in time. The sender is to try again.
	ErrUnavailable = errors.New("the commit queue is not available")
	// ErrUnroutable is returned when the broker confirmed a message that no queue
	// holds: somebody has removed the queue or its binding.
	ErrUnroutable = errors.New("the broker routed the message to no queue")
	// ErrNotLeader is returned by a Proposer when this node does not lead, or not
	// any more. What was proposed may or may not be in the log.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrBadCommit is returned when a commit from outside is not one that narwhal
	// would hand to git; the text names the field.
	ErrBadCommit = errors.New("bad commit")
	// ErrBadMessage is returned when a message of the queue can't be read. It is
	// dead-lettered: no other node would read it either.
	ErrBadMessage = errors.New("bad message")
)
