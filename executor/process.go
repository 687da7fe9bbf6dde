package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// ProcessConfig is the operator's.
type ProcessConfig struct {
	Node fsm.NodeID
	// Attempts is the folder of the attempts' folders, in which Sweep reads what
	// an earlier narwhal started.
	Attempts string
	// Env is all that steps get to see of this machine's environment, as
	// KEY=VALUE. Empty gives a usual PATH, and / as HOME.
	Env []string
	// Nice is how much lower than narwhal's own the steps' priority is; 5 where 0.
	Nice int
	// OOMScore is the steps' oom_score_adj, from 1 to 1000; 500 where 0.
	OOMScore int
	Grace    time.Duration // between TERM and KILL; 10 s where 0
	LogLimit int64         // of a job in bytes; 64 MiB where 0
	Pids     int64         // processes and threads of a job, where it has a group; 2048 where 0
}

// Process runs steps as plain processes of this machine, in the workspace, as
// narwhal's own user. There is no isolation, nothing is installed, and there are
// neither services nor images. Where narwhal may make control groups each job has
// its own, which holds its limits and from which nothing gets away. Elsewhere what
// a job asked for is not enforced, nor how many processes it has: a user's limit of
// them counts narwhal's own, and root has none. What it leaves behind is killed then
// unless it has left its session and changed its environment, both.
type Process struct {
	cfg     ProcessConfig
	log     *slog.Logger
	cgroups cgroups

	jobs sync.WaitGroup
	mu   sync.Mutex
	runs map[fsm.AttemptRef]*processRun
	shut bool
}

var _ Executor = (*Process)(nil)

// NewProcess makes one. Close ends what it has started.
func NewProcess(cfg ProcessConfig, log *slog.Logger) *Process {
	if len(cfg.Env) == 0 {
		cfg.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	}
	if cfg.Nice == 0 {
		cfg.Nice = 5
	}
	if cfg.OOMScore == 0 {
		cfg.OOMScore = 500
	}
	if cfg.Grace == 0 {
		cfg.Grace = supervise.DefaultGrace
	}
	if cfg.Pids == 0 {
		cfg.Pids = DefaultPids
	}
	p := &Process{cfg: cfg, log: log, cgroups: detectCgroups(), runs: make(map[fsm.AttemptRef]*processRun)}
	log.Warn("jobs run as processes of this machine: there is no isolation", "limits", p.Limits())
	return p
}

// Limits reports whether jobs are held to the resources that they ask for.
func (p *Process) Limits() bool { return p.cfg.Node != "" && p.cgroups.roots["memory"] != "" }

// Name is "process".
func (p *Process) Name() string { return "process" }

// Start runs the attempt within this process.
func (p *Process) Start(ctx context.Context, t Task) (Run, error) {
	if err := errors.Join(t.check(), ctx.Err()); err != nil {
		return nil, err
	}
	if message := needsContainers(t); message != "" {
		return ended{fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: message}}, nil
	}
	for _, name := range []string{InDir, OutDir} {
		if err := t.folder(name, 0o755); err != nil {
			return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
		}
	}
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &processRun{cancel: cancel, done: make(chan struct{}), now: make(chan struct{}), desk: supervise.NewDesk()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || p.runs[t.Ref] != nil {
		cancel(nil)
		return nil, fmt.Errorf("start attempt %s: it runs already, or this executor is closed", t.Ref)
	}
	p.runs[t.Ref] = r
	p.jobs.Go(func() {
		defer cancel(nil)
		r.outcome, r.err = p.supervise(life, t, r.desk)
		r.outcome.LogBytes = t.endLog(p.cfg.LogLimit, p.log)
		p.mu.Lock()
		delete(p.runs, t.Ref)
		p.mu.Unlock()
		close(r.done)
	})
	return r, nil
}

// needsContainers says what the job asks for that is not to be had here.
func needsContainers(t Task) string {
	if n := len(t.Work.Spec.Services); n > 0 {
		return fmt.Sprintf("service %s: this node runs jobs as plain processes and has no services; "+
			"give the job labels of a node that runs containers", t.Work.Spec.Services[0].Name)
	}
	for _, step := range t.Work.Spec.Steps {
		if step.Image != "" && step.Image != t.Work.Spec.Image && step.Skip == "" {
			return fmt.Sprintf("step %s: this node runs jobs as plain processes and has no image %s; "+
				"give the job labels of a node that runs containers", step.Name, step.Image)
		}
	}
	return ""
}

// supervise runs the attempt's steps, in a group of their own where there can be one.
func (p *Process) supervise(ctx context.Context, t Task, desk *supervise.Desk) (fsm.Outcome, error) {
	spec := task(t, t.Workspace, p.cfg.Env, p.cfg.Grace, p.cfg.LogLimit)
	spec.Nice, spec.OOMScore = p.cfg.Nice, p.cfg.OOMScore
	spec.Where = fmt.Sprintf("node %s", t.Node)
	spec.SecretValues, spec.Desk = t.Secrets, desk
	group := filepath.Join(groupName(p.cfg.Node), refName(t.Ref))
	if !p.Limits() {
		return supervise.Run(ctx, spec, t.log(), t.journal())
	}
	want := t.Work.Spec.Resources
	if err := p.cgroups.make(group, limits{cpu: want.CPU, memory: memoryLimit(t), pids: p.cfg.Pids}); err != nil {
		p.log.Warn("run attempt without limits", "attempt", t.Ref.String(), "error", err)
	} else {
		enter(&spec, p.cgroups.dirs(group))
		spec.MemoryLimit, spec.MemoryBytes = bytesText(memoryLimit(t)), memoryLimit(t)
		spec.Memory = func() (int64, int) { return p.cgroups.usage(group) }
	}
	o, err := supervise.Run(ctx, spec, t.log(), t.journal())
	peak, _ := p.cgroups.usage(group)
	o.PeakMemory = max(o.PeakMemory, peak)
	if err := p.cgroups.remove(group); err != nil {
		p.log.Warn("remove what a job left", "attempt", t.Ref.String(), "error", err)
	}
	return o, err
}

// enter has each step's shell put itself into the group before it does anything
// else: whatever it starts is then born there. It stands on the first line, so that
// the numbers of the lines stay those of the file.
func enter(spec *supervise.Task, dirs []string) {
	var script strings.Builder
	for _, dir := range dirs {
		fmt.Fprintf(&script, "echo $$ > '%s/cgroup.procs'; ", dir)
	}
	for i := range spec.Steps {
		step := &spec.Steps[i]
		if len(step.Command) > 0 {
			step.Command = slices.Clone(step.Command)
			step.Command[0] = script.String() + step.Command[0]
		}
	}
}

// Adopt finds nothing: an attempt ends with the narwhal that runs it. Its processes
// don't, if that was killed, so they are ended before anyone hears that it is gone,
// and runs it elsewhere.
func (p *Process) Adopt(ctx context.Context, t Task) (Run, error) {
	if err := p.Sweep(ctx, nil); err != nil {
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, err)
	}
	t.endLog(p.cfg.LogLimit, p.log)
	return nil, fmt.Errorf("adopt attempt %s: %w: processes don't outlive the narwhal that runs them", t.Ref, ErrGone)
}

// Close stops every attempt and waits for their ends.
func (p *Process) Close() error {
	p.mu.Lock()
	p.shut = true
	for _, r := range p.runs {
		r.cancel(&supervise.Stop{Grace: p.cfg.Grace, Now: r.now})
	}
	p.mu.Unlock()
	p.jobs.Wait()
	if p.Limits() { // the folder of the groups, which are gone
		return p.cgroups.sweep(groupName(p.cfg.Node), p.has)
	}
	return nil
}
