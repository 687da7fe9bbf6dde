package cluster

import "errors"

// The package's errors. They come wrapped, with the IDs and ways out in the text.
var (
	// ErrForeign is returned when a peer, token or data directory belongs to
	// another cluster.
	ErrForeign = errors.New("another cluster")
	// ErrTokenRefused is returned when the cluster did not take the join token.
	ErrTokenRefused = errors.New("the token was refused")
	// ErrToken is returned when a join token is missing or has no token's form.
	ErrToken = errors.New("invalid join token")
	// ErrJoinSelf is returned when the host to join is this node.
	ErrJoinSelf = errors.New("the host to join is this node itself: start the first node without --join")
	// ErrLocked is returned when another process has the data directory open.
	ErrLocked = errors.New("the data directory is in use by another process")
	// ErrDamaged is returned when the data directory holds a log without an
	// identity, or an identity whose log is gone.
	ErrDamaged = errors.New("the data directory is damaged")
	// ErrLeft is returned when the node has left its cluster for good.
	ErrLeft = errors.New("this node has left its cluster")
	// ErrSuperseded is returned when the cluster was recovered without this node,
	// which holds a log from before.
	ErrSuperseded = errors.New("the cluster was recovered without this node")
	// ErrTwin is returned when another process runs under this node's ID, from a
	// copy of its data directory.
	ErrTwin = errors.New("another process runs as this node")
	// ErrProtocol is returned when the versions of this node and of the cluster's are too
	// far apart for them to talk to each other.
	ErrProtocol = errors.New("the versions are too far apart")
	// ErrNotRunning is returned before Run has started the log and after it ended.
	ErrNotRunning = errors.New("the node is not running")
	// ErrNotLeader is returned when what was asked can be done by the leader only.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrUncertain is returned when leadership was lost while an entry was on its
	// way: it may be committed, or not. Propose it again only if it is idempotent.
	ErrUncertain = errors.New("leadership was lost: the entry may or may not be committed")
	// ErrTooLarge is returned when an entry exceeds MaxEntry.
	ErrTooLarge = errors.New("the entry is too large")
	// ErrUnknownNode is returned when no member has the ID.
	ErrUnknownNode = errors.New("no such node in the cluster")
	// ErrAlone is returned when the only node is told to leave.
	ErrAlone = errors.New("this is the only node: stop it and remove its data directory instead")
	// ErrMachine is returned when this node cannot understand an entry of the log.
	// It must stop: skipping one would make its state differ from the others'.
	ErrMachine = errors.New("this node cannot apply the log")
)
