package fsm

import (
	"errors"
	"fmt"
)

// What a command is refused with, by Apply but for ErrTooLarge and ErrHeldBack. The texts say what to do where there is something.
var (
	// ErrUpgrade is returned when an entry holds a command or a field that this
	// version does not know. The node must stop: skipping it would make its state
	// differ from the others'.
	ErrUpgrade = errors.New("the log holds a command that this version does not know: upgrade this node")
	// ErrUnknownBuild is returned when there is no such build, or no longer.
	ErrUnknownBuild = errors.New("no such build")
	// ErrUnknownJob is returned when there is no such job.
	ErrUnknownJob = errors.New("no such job")
	// ErrUnknownNode is returned when the node never said hello, or has left.
	ErrUnknownNode = errors.New("no such node")
	// ErrEnded is returned when the build has ended: it never changes again.
	ErrEnded = errors.New("the build has ended")
	// ErrNotEnded is returned when a log is to be sealed that is still written to.
	ErrNotEnded = errors.New("the attempt has not ended")
	// ErrStale is returned when a report is about an attempt that is not the
	// current one: its result does not count and is to be thrown away.
	ErrStale = errors.New("the attempt has been superseded")
	// ErrNotQueued is returned when a job that is to be placed is not waiting.
	ErrNotQueued = errors.New("the job is not queued")
	// ErrNodeChanged is returned when the node was restarted or drained since the
	// placement was planned.
	ErrNodeChanged = errors.New("the node has been restarted or drained")
	// ErrNoRoom is returned when the node has too little left.
	ErrNoRoom = errors.New("the node has no room for the job")
	// ErrGroupFull is returned when as many of the job's concurrency group run as
	// may.
	ErrGroupFull = errors.New("the job's concurrency group is full")
	// ErrNotHeld is returned when nobody is asked about the job.
	ErrNotHeld = errors.New("the job does not wait for a person")
	// ErrJobEnded is returned when a step of a job is decided on that has ended.
	ErrJobEnded = errors.New("the job has ended")
	// ErrNotPlaced is returned when a step is decided on before its job has an attempt
	// under way.
	ErrNotPlaced = errors.New("the job is not on a node yet: each attempt asks anew")
	// ErrNoStep is returned when the job has no step of that name.
	ErrNoStep = errors.New("the job has no such step")
	// ErrNotManual is returned when nobody is asked about the step.
	ErrNotManual = errors.New("the step does not wait for a person: its when does not say manual, or it is left out")
	// ErrDecided is returned when somebody has said the opposite of the step before.
	ErrDecided = errors.New("the step has been decided on otherwise")
	// ErrNodeBusy is returned when a node that is to be forgotten still has jobs.
	ErrNodeBusy = errors.New("the node still has jobs placed on it")
	// ErrHeldBack is returned when a command is newer than a node that holds the log: it
	// was not even proposed.
	ErrHeldBack = errors.New("not every node knows this yet")
	// ErrTooLarge is returned when a command is larger than a log entry may be: it
	// was not even proposed.
	ErrTooLarge = errors.New("the command is larger than a log entry may be (256 KiB)")
	// ErrInvalid is returned when a command makes no sense: a bug of its proposer.
	ErrInvalid = errors.New("invalid command")
)

func attemptName(job JobID, n int) string { return fmt.Sprintf("%s#%d", job, n) }
