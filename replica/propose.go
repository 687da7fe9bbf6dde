package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

// Log is the ordered log that commands go to. Apply returns once the entry is
// committed and applied on this node, with what Replica.Apply answered.
type Log interface {
	Apply(ctx context.Context, entry []byte) (index uint64, result any, err error)
}

const (
	// maxBatch bounds the commands of one entry, maxEntry its bytes: large
	// entries hold up raft's heartbeats, which share their connection.
	maxBatch = 512
	maxEntry = 256 << 10
	// inFlight is how many entries may be on their way at a time. While they are,
	// new commands gather into the next entry: the busier, the larger the batch.
	inFlight = 2
)

// ErrStopped is returned when the node is going down.
var ErrStopped = errors.New("the node is shutting down")

// Proposer carries commands to the log: those that wait together travel in one
// entry.
type Proposer struct {
	log     Log
	now     func() time.Time
	limit   Limit
	needs   func(fsm.Command) uint
	queue   chan proposal
	stopped chan struct{} // closed when Run has ended
}

type proposal struct {
	command []byte // encoded
	done    chan answer
}

type answer struct {
	result fsm.Result
	err    error
}

// Limit is the state version that all nodes which hold the log can apply, and who has no
// more, for people.
type Limit func() (version uint, who string)

// NewProposer makes a proposer for log; now is the clock that stamps commands. Without a
// limit everything is proposed.
func NewProposer(log Log, now func() time.Time, limit Limit) *Proposer {
	return &Proposer{log: log, now: now, limit: limit, needs: fsm.Needs, queue: make(chan proposal, maxBatch), stopped: make(chan struct{})}
}

// Propose stamps a command, carries it to the log and waits until it has been
// applied here. The error is the log's (no leader, leadership lost: the command
// may still be committed) or, wrapped, the sentinel that Apply refused with.
func (p *Proposer) Propose(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	results, err := p.ProposeAll(ctx, []fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], results[0].Err
}

// ProposeAll carries several commands, each on its own merit: what Apply refused
// stands in the results, as do fsm.ErrTooLarge and fsm.ErrHeldBack. The error is the log's.
func (p *Proposer) ProposeAll(ctx context.Context, commands []fsm.Command) ([]fsm.Result, error) {
	results := make([]fsm.Result, len(commands))
	waiting := make([]proposal, len(commands)) // without a command where the result is known
	for i, c := range commands {
		if err := p.held(c); err != nil {
			results[i].Err = err
			continue
		}
		c.At = p.now().UTC()
		data, err := fsm.EncodeCommand(c)
		if err != nil {
			return nil, err
		}
		if len(data) > maxEntry {
			results[i].Err = fmt.Errorf("propose %d bytes: %w", len(data), fsm.ErrTooLarge)
			continue
		}
		waiting[i] = proposal{command: data, done: make(chan answer, 1)}
	}
	for i := range waiting {
		if waiting[i].command == nil {
			continue
		}
		select {
		case p.queue <- waiting[i]:
		case <-p.stopped:
			return nil, ErrStopped
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for i := range waiting {
		if waiting[i].command == nil {
			continue
		}
		a, err := p.await(ctx, waiting[i])
		if err != nil {
			return nil, err
		}
		results[i] = a
	}
	return results, nil
}

// held is fsm.ErrHeldBack for a command that some node would have to stop at.
func (p *Proposer) held(c fsm.Command) error {
	needs := p.needs(c)
	if needs <= 1 || p.limit == nil {
		return nil
	}
	if version, who := p.limit(); version < needs {
		return fmt.Errorf("%w: it takes a narwhal of state version %d, and %s has %d: upgrade that node", fsm.ErrHeldBack, needs, who, version)
	}
	return nil
}

func (p *Proposer) await(ctx context.Context, w proposal) (fsm.Result, error) {
	select {
	case a := <-w.done:
		return a.result, a.err
	case <-p.stopped:
		select { // Run has waited for what was under way: it may be known by now
		case a := <-w.done:
			return a.result, a.err
		default:
			return fsm.Result{}, ErrStopped
		}
	case <-ctx.Done():
		return fsm.Result{}, ctx.Err()
	}
}

// Run batches and proposes until ctx ends.
func (p *Proposer) Run(ctx context.Context) error {
	defer close(p.stopped)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	var first *proposal
	for {
		if first == nil {
			select {
			case next := <-p.queue:
				first = &next
			case <-ctx.Done():
				return group.Wait()
			}
		}
		batch, rest := p.gather(*first)
		first = rest
		group.Go(func() error { p.commit(ctx, batch); return nil })
	}
}

// gather takes what waits, up to the bounds of an entry. What does not fit any
// more opens the next batch.
func (p *Proposer) gather(first proposal) (batch []proposal, rest *proposal) {
	batch, size := []proposal{first}, len(first.command)
	for len(batch) < maxBatch {
		select {
		case next := <-p.queue:
			if size+len(next.command) > maxEntry {
				return batch, &next
			}
			batch, size = append(batch, next), size+len(next.command)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func (p *Proposer) commit(ctx context.Context, batch []proposal) {
	results, err := p.apply(ctx, batch)
	for i := range batch {
		if err != nil {
			batch[i].done <- answer{err: err}
			continue
		}
		batch[i].done <- answer{result: results[i]}
	}
}

func (p *Proposer) apply(ctx context.Context, batch []proposal) ([]fsm.Result, error) {
	commands := make([][]byte, len(batch))
	for i := range batch {
		commands[i] = batch[i].command
	}
	data, err := fsm.JoinEntry(commands)
	if err != nil {
		return nil, err
	}
	_, answered, err := p.log.Apply(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("propose %d commands: %w", len(commands), err)
	}
	results, ok := answered.([]fsm.Result)
	if !ok || len(results) != len(batch) {
		return nil, fmt.Errorf("propose %d commands: the log answered with %T", len(commands), answered)
	}
	return results, nil
}
