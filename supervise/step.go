package supervise

import (
	"context"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// room is where a step runs: this container, or a satellite.
type room interface {
	// try runs the step's commands once.
	try(ctx context.Context, i int, step *Step, secrets []string) ending
	// leave says that no try comes any more.
	leave()
}

// here runs a step in this container, or on this machine.
type here struct {
	r   *run
	out *output
}

func (h here) try(ctx context.Context, i int, step *Step, secrets []string) ending {
	return h.r.site.try(ctx, i, step, secrets, h.out)
}

// leave goes on with what others still print, until the job has ended.
func (h here) leave() {
	if !h.out.finish() {
		h.r.linger(h.out)
	}
}

// room opens the one in which the step runs.
func (r *run) room(i int) (room, error) {
	if r.task.Steps[i].Satellite != "" {
		return r.satellites.room(i)
	}
	out, err := openOutput(r.log.Stream(i))
	if err != nil {
		return nil, err
	}
	return here{r, out}, nil
}

// step runs a step to its end, and notes what became of it.
func (r *run) step(ctx context.Context, i int) ending {
	step := &r.task.Steps[i]
	end, tries := r.turn(ctx, i), 0
	result := fsm.StepResult{Name: step.Name, StartedAt: time.Now().UTC()}
	if passed(end) {
		r.log.Printf("step %s (%d of %d)", step.Name, i+1, len(r.task.Steps))
		r.began(i, result.StartedAt)
		if err := r.journal.Append(Record{Kind: RecordStart, Step: i}); err != nil {
			end = broken("%v", err) // nobody would know that it ran, and it might run again
		} else {
			end, tries = r.tries(ctx, i, step)
		}
		r.ended(i)
	}
	if end.message != "" {
		end.message = "step " + step.Name + ": " + end.message
	}
	result.Status, result.Cause, result.ExitCode, result.EndedAt = end.status, end.cause, end.exit, time.Now().UTC()
	result.CPUTime, result.PeakMemory = end.usage.cpu, end.usage.peak
	if tries > 1 {
		result.Tries = tries
	}
	// Nothing goes on when the job's own time is up.
	end.allowed = step.AllowFailure && !passed(end) && ctx.Err() == nil
	if result.Allowed = end.allowed; end.allowed {
		r.log.Printf("%s; it may fail", end.message)
	}
	r.note(i, result)
	return end
}

// turn returns when the step may go on: its ending is one of Passed then.
func (r *run) turn(ctx context.Context, i int) ending {
	if m := r.task.Steps[i].Missing; m != nil { // nobody is to approve what can't run
		return ending{status: fsm.Errored, cause: m.Cause, message: m.Message}
	}
	return r.await(ctx, i)
}

// tries runs a step until it passes or is not to be tried again.
func (r *run) tries(ctx context.Context, i int, step *Step) (end ending, tries int) {
	room, err := r.room(i)
	if err != nil {
		return broken("%v", err), 0
	}
	defer room.leave()
	secrets := r.secrets(step)
	var used usage
	for {
		tries++
		end = room.try(ctx, i, step, secrets)
		used.add(end.usage)
		end.usage = used
		if ctx.Err() != nil || !again(step.Retry, end, tries) {
			return end, tries
		}
		pause := backoff(step.Retry, tries)
		r.log.Printf("step %s: %s; trying again (%d of %d) in %s", step.Name, end.message, tries+1, step.Retry.Max+1, pause)
		if !sleep(ctx, pause) {
			last := stopped(ctx)
			last.usage = used
			return last, tries
		}
	}
}

// secrets are the entries of the environment that the step asks for.
func (r *run) secrets(step *Step) []string {
	var list []string
	for _, name := range step.Secrets {
		if value, ok := r.task.SecretValues[name]; ok {
			list = append(list, name+"="+value)
			continue
		}
		r.log.Printf("step %s: there is no secret %s for this job", step.Name, name)
	}
	return list
}

// leaveOut notes that a step doesn't run.
func (r *run) leaveOut(i int) {
	step := &r.task.Steps[i]
	if step.Skip != "" {
		r.log.Printf("step %s is left out: %s", step.Name, step.Skip)
	}
	r.note(i, fsm.StepResult{Name: step.Name, Status: fsm.Skipped})
}

// note keeps a step's result. The journal's end record says it again: a failure
// to write shows there.
func (r *run) note(i int, result fsm.StepResult) {
	r.mu.Lock()
	r.results[i] = result
	r.mu.Unlock()
	_ = r.journal.Append(Record{Kind: RecordStep, Step: i, Result: &result})
}

func (r *run) began(i int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[i] = RunningStep{Step: i, Name: r.task.Steps[i].Name, Since: at}
}

func (r *run) ended(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, i)
}

// leads notes which process leads a step's session.
func (r *run) leads(i, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.running[i]; ok {
		at.Pid = pid
		r.running[i] = at
	}
}

// started has the journal tell of a step's process.
func (r *run) started(i, pid int) {
	r.leads(i, pid)
	if self, ok := stat(pid); ok {
		record := Record{Kind: RecordProcess, Step: i, Pid: pid, Start: self.Start}
		if !r.site.contained() { // a container's numbers mean nothing outside of it
			record.Boot = boot()
		}
		_ = r.journal.Append(record)
	}
}
