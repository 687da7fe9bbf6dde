package supervise

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/joblog/mask"
)

// run is one job on its way.
type run struct {
	task    *Task
	dir     string // the attempt's folder
	log     *joblog.Writer
	journal *Journal
	mask    *mask.Set
	site    *site
	stopper *stopper
	since   time.Time

	satellites *satellites

	over      chan struct{} // closed when no step will print any more
	lingering sync.WaitGroup

	mu      sync.Mutex
	results []fsm.StepResult    // by step
	running map[int]RunningStep // by step
	left    []*output           // of steps that have ended, whose pipes others hold
}

// Run runs the task's steps, each when those that it waits for have ended. What
// they print goes to the log at logPath, what happens to the journal at
// journalPath, and archives are in the folders beside it. When ctx ends, what runs
// is stopped and the outcome is Canceled. The error is about log and journal
// alone: a job that could not be run is an outcome.
func Run(ctx context.Context, task Task, logPath, journalPath string) (fsm.Outcome, error) {
	return supervise(ctx, task, direct{}, nil, logPath, journalPath)
}

// supervise is Run with a way to have children, and an environment below the
// task's own.
func supervise(ctx context.Context, task Task, p parent, below []string, logPath, journalPath string) (o fsm.Outcome, err error) {
	journal, err := OpenJournal(journalPath)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	log, err := joblog.Create(logPath, task.LogLimit)
	if err != nil {
		return o, err
	}
	if task.Desk == nil {
		task.Desk = NewDesk()
	}
	r := newRun(&task, p, log, journal)
	r.dir = filepath.Dir(journalPath)
	r.site.env = overlay(below, task.Env)
	log.Mask(r.mask)
	ctx, r.stopper = newStopper(ctx)
	defer r.stopper.close()
	r.site.now = r.stopper.now
	end := r.whole(r.noting(ctx))
	if r.site.contained() {
		killOthers() // who still runs could write to the journal after its end
	}
	if err := log.Close(); err != nil && passed(end) {
		end = broken("its log could not be kept: %v", err)
	}
	o = r.outcome(end)
	o.LogBytes = log.Size()
	return o, journal.Append(Record{Kind: RecordEnd, Outcome: &o})
}

// noting has the journal tell when ctx is ended, by whoever that is.
func (r *run) noting(ctx context.Context) context.Context {
	r.lingering.Go(func() {
		select {
		case <-ctx.Done():
			_ = r.journal.Append(Record{Kind: RecordTold}) // for whom it matters, the end says no less
		case <-r.over:
		}
	})
	return ctx
}

func newRun(task *Task, p parent, log *joblog.Writer, journal *Journal) *run {
	values := make([]string, 0, len(task.SecretValues))
	for _, value := range task.SecretValues {
		values = append(values, value)
	}
	r := &run{
		task: task, log: log, journal: journal, mask: mask.New(values), since: time.Now().UTC(),
		over: make(chan struct{}), results: make([]fsm.StepResult, len(task.Steps)), running: make(map[int]RunningStep),
	}
	r.site = &site{task: task, parent: p, say: log.Printf, started: r.started, installs: newInstalls(), crowd: newCrowd()}
	return r
}

func (r *run) outcome(end ending) fsm.Outcome {
	o := fsm.Outcome{
		Status: end.status, Cause: end.cause, ExitCode: end.exit, Message: r.mask.String(end.message), Steps: r.results,
	}
	for _, s := range r.results {
		o.CPUTime += s.CPUTime
		o.PeakMemory = max(o.PeakMemory, s.PeakMemory)
	}
	if r.site.contained() {
		o.PeakMemory = max(o.PeakMemory, peakMemory()+r.satellites.peak())
	}
	return o
}

// whole runs the job with all that is around its steps.
func (r *run) whole(ctx context.Context) ending {
	for i := range r.task.Steps { // what isn't reached is left out
		r.results[i] = fsm.StepResult{Name: r.task.Steps[i].Name, Status: fsm.Skipped}
	}
	r.satellites = newSatellites(r)
	closing, err := r.serveControl()
	if err != nil {
		return broken("%v", err)
	}
	defer closing()
	end := r.bounded(ctx)
	r.clean()
	return r.save(ctx, end)
}

// bounded is what the job's timeout bounds.
func (r *run) bounded(ctx context.Context) ending {
	if info, err := os.Stat(r.task.Dir); err != nil || !info.IsDir() {
		return broken("the working directory %s is not there", r.task.Dir)
	}
	ctx, cancel := bounded(ctx, r.task.Timeout, errJobTimeout)
	defer cancel()
	for _, prepare := range []func(context.Context) error{r.satellites.connect, r.restore, r.services} {
		if err := prepare(ctx); err != nil {
			if ctx.Err() != nil {
				return stopped(ctx)
			}
			return broken("%v", err)
		}
	}
	return r.steps(ctx)
}

// steps runs the steps. The job ends as the first one did that failed and may not.
func (r *run) steps(ctx context.Context) ending {
	type ended struct {
		step int
		end  ending
	}
	var (
		graph   = newGraph(r.task.Steps)
		ends    = make(chan ended)
		workers sync.WaitGroup
		running int
		verdict = ending{status: fsm.Passed}
		reached int
	)
	defer workers.Wait()
	for {
		if ctx.Err() == nil {
			start, leave := graph.next()
			for _, i := range leave {
				r.leaveOut(i)
			}
			for _, i := range start {
				workers.Go(func() { ends <- ended{i, r.step(ctx, i)} })
			}
			running += len(start)
			reached += len(start) + len(leave)
		}
		if running == 0 {
			break
		}
		e := <-ends
		running--
		bad := !passed(e.end) && !e.end.allowed
		graph.end(e.step, bad)
		if bad && passed(verdict) {
			verdict = e.end
		}
	}
	if passed(verdict) && reached < len(r.task.Steps) {
		return stopped(ctx)
	}
	return verdict
}

// linger takes what is printed into a pipe whose step has ended.
func (r *run) linger(o *output) {
	r.mu.Lock()
	r.left = append(r.left, o)
	r.mu.Unlock()
	r.lingering.Go(func() { o.copy(r.over) })
}

// clean kills what the steps left behind. A step may leave a server running for
// the next one, so this comes when the job has ended.
func (r *run) clean() {
	r.site.killSessions()
	r.satellites.hangUp()
	close(r.over)
	for _, o := range r.left {
		o.interrupt()
	}
	r.lingering.Wait()
	free := r.drain()
	if len(r.task.Marks) > 0 && !r.site.contained() {
		// Also those that hold no output: nothing else tells of them.
		n, err := KillAll(Marked(r.task.Marks))
		if !free && (err != nil || n > 0) {
			r.log.Printf("killed %d processes that the steps left behind", n)
		}
	}
	if !free {
		r.drain()
	}
	for _, o := range r.left {
		o.close()
	}
	r.left = nil
}

// drain reports whether nobody holds a step's output any more.
func (r *run) drain() bool {
	until, free := time.Now().Add(drainFor), true
	for _, o := range r.left {
		free = o.drain(until) && free
	}
	return free
}
