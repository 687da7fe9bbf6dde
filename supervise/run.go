package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// What ended a run before its steps had.
var (
	errJobTimeout  = errors.New("the job took longer than its timeout")
	errStepTimeout = errors.New("it took longer than its timeout")
)

// Stop is the cause of a context that ends with a grace of its own.
type Stop struct {
	Grace time.Duration
	Now   <-chan struct{} // ends the grace early when it is closed; may be nil
}

func (s *Stop) Error() string { return "stopped with a grace of " + s.Grace.String() }

// run is one job on its way.
type run struct {
	task      *Task
	parent    parent
	log       *joblog.Writer
	journal   *Journal
	out       *output
	env       []string
	sessions  []int // led by processes that have ended, but left others behind
	results   []fsm.StepResult
	refreshed bool // the installer's lists are fresh
}

// ending is how a step, or a job, came to its end.
type ending struct {
	status  fsm.Status
	cause   fsm.Cause
	exit    int
	message string
}

func misconfigured(format string, args ...any) ending {
	return ending{status: fsm.Errored, cause: fsm.CauseConfig, message: fmt.Sprintf(format, args...)}
}

// Run runs the task's steps, in order, until one doesn't pass. What they print
// goes to the log at logPath, what happens to the journal at journalPath. When
// ctx ends, the step that runs is stopped and the outcome is Canceled. The error
// is about log and journal alone: a job that could not be run is an outcome.
func Run(ctx context.Context, task Task, logPath, journalPath string) (fsm.Outcome, error) {
	return supervise(ctx, task, direct{}, logPath, journalPath)
}

func supervise(ctx context.Context, task Task, p parent, logPath, journalPath string) (o fsm.Outcome, err error) {
	journal, err := OpenJournal(journalPath)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	log, err := joblog.Create(logPath, task.LogLimit)
	if err != nil {
		return o, err
	}
	out, err := openOutput(log)
	if err != nil {
		return o, errors.Join(err, log.Close())
	}
	r := &run{task: &task, parent: p, log: log, journal: journal, out: out, env: overlay(task.Env)}
	end := r.steps(ctx)
	r.clean()
	if err := log.Close(); err != nil && end.status == fsm.Passed {
		end = ending{status: fsm.Errored, message: "its log could not be kept: " + err.Error()}
	}
	o = fsm.Outcome{
		Status: end.status, Cause: end.cause, ExitCode: end.exit, Message: end.message,
		Steps: r.results, LogBytes: log.Size(),
	}
	return o, journal.Append(Record{Kind: RecordEnd, Outcome: &o})
}

// steps runs the steps until one doesn't pass.
func (r *run) steps(ctx context.Context) ending {
	if info, err := os.Stat(r.task.Dir); err != nil || !info.IsDir() {
		return ending{status: fsm.Errored, message: fmt.Sprintf("the working directory %s is not there", r.task.Dir)}
	}
	if r.task.Timeout > 0 {
		var cancel context.CancelFunc
		cause := fmt.Errorf("%w of %s", errJobTimeout, r.task.Timeout)
		ctx, cancel = context.WithTimeoutCause(ctx, r.task.Timeout, cause)
		defer cancel()
	}
	for i := range r.task.Steps {
		if end := r.step(ctx, i); end.status != fsm.Passed {
			return end
		}
	}
	return ending{status: fsm.Passed}
}

func (r *run) step(ctx context.Context, i int) ending {
	step := &r.task.Steps[i]
	if ctx.Err() != nil {
		return r.stopped(ctx)
	}
	if step.Timeout > 0 {
		var cancel context.CancelFunc
		cause := fmt.Errorf("%w of %s", errStepTimeout, step.Timeout)
		ctx, cancel = context.WithTimeoutCause(ctx, step.Timeout, cause)
		defer cancel()
	}
	result := fsm.StepResult{Name: step.Name, StartedAt: time.Now().UTC()}
	r.log.Printf("step %s (%d of %d)", step.Name, i+1, len(r.task.Steps))
	end := r.attempt(ctx, i)
	if end.message != "" {
		end.message = "step " + step.Name + ": " + end.message
	}
	result.Status, result.ExitCode, result.EndedAt = end.status, end.exit, time.Now().UTC()
	r.results = append(r.results, result)
	// The journal's end record says it again: a failure to write shows there.
	_ = r.journal.Append(Record{Kind: RecordStep, Step: i, Result: &result})
	return end
}

// attempt installs what the step needs and runs its commands.
func (r *run) attempt(ctx context.Context, i int) ending {
	step := &r.task.Steps[i]
	env := r.env
	if len(step.Env) > 0 {
		env = overlay(r.env, step.Env)
	}
	shell := r.shell(env)
	if shell == "" {
		return misconfigured("%s has no shell: there is no %s in its PATH", r.task.where(), r.shellName())
	}
	if end, ok := r.install(ctx, i, env); !ok {
		return end
	}
	script, err := script(step.Command)
	if err != nil {
		return misconfigured("%v", err)
	}
	return r.command(ctx, i, []string{shell, "-e", "-c", script}, env)
}

func (r *run) shellName() string {
	if r.task.Shell != "" {
		return r.task.Shell
	}
	return "sh"
}

func (r *run) shell(env []string) string {
	if path := lookPath(r.shellName(), env); path != "" {
		return path
	}
	if name := r.shellName(); name == "sh" && executable("/bin/sh") {
		return "/bin/sh"
	}
	return ""
}

// stopped says how a job ends whose context has.
func (r *run) stopped(ctx context.Context) ending {
	cause := context.Cause(ctx)
	if errors.Is(cause, errJobTimeout) || errors.Is(cause, errStepTimeout) {
		return ending{status: fsm.Failed, cause: fsm.CauseTimeout, message: cause.Error()}
	}
	return ending{status: fsm.Canceled, cause: fsm.CauseCanceled, message: "canceled"}
}
