package executor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

const (
	healthEvery = time.Second
	// lastWords is how many lines are shown of a service that isn't ready, and
	// lastBytes the most of it that is read.
	lastWords = 20
	lastBytes = 64 << 10
)

// awaitServices waits for the services whose readiness the engine looks after.
// failed is set where one can't become ready any more.
func (d *Docker) awaitServices(ctx context.Context, t Task) (failed *fsm.Outcome, err error) {
	if !slices.ContainsFunc(t.Work.Spec.Services, asked) {
		return nil, nil
	}
	t.say(d.cfg.LogLimit, "waiting for services")
	heard, errs, hangUp := d.hearOf(ctx, t)
	defer hangUp()
	for {
		next, failed, err := d.lookAtServices(ctx, t)
		if failed != nil || err != nil || next.IsZero() {
			return failed, err
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-heard:
		case <-timer.C:
		case err := <-errs:
			timer.Stop()
			return nil, fmt.Errorf("wait for services: %w", err)
		}
		timer.Stop()
	}
}

// asked reports whether the engine is to look after the service's readiness.
func asked(s pipeline.Service) bool { return s.Ready != nil && len(s.Ready.Command) > 0 }

// hearOf is told of what becomes of the attempt's containers, from now on: what
// has been before must be looked for after this.
func (d *Docker) hearOf(ctx context.Context, t Task) (<-chan events.Message, <-chan error, context.CancelFunc) {
	ctx, hangUp := context.WithCancel(ctx)
	args := d.of(t.Ref)
	args.Add("type", string(events.ContainerEventType))
	args.Add("event", string(events.ActionHealthStatus))
	args.Add("event", string(events.ActionDie))
	// The engine answers before it listens. What happens between is in what it tells
	// of the seconds before; its clock is this machine's.
	since := strconv.FormatInt(time.Now().Add(-2*time.Second).Unix(), 10)
	messages, errs := d.api.Events(ctx, events.ListOptions{Filters: args, Since: since})
	return messages, errs, hangUp
}

// lookAtServices gives the next deadline of those that are not ready; none where
// all are.
func (d *Docker) lookAtServices(ctx context.Context, t Task) (next time.Time, failed *fsm.Outcome, err error) {
	for _, s := range t.Work.Spec.Services {
		found, err := d.api.ContainerInspect(ctx, d.containerName(t)+"-"+roleService+"-"+s.Name)
		if err != nil {
			return next, nil, fmt.Errorf("look at service %s: %w", s.Name, err)
		}
		state := found.State
		if s.Ready != nil && !state.Running {
			return next, unready(s.Name, howEnded(state)+" before it was ready"), nil
		}
		if !asked(s) || state.Health != nil && state.Health.Status == container.Healthy {
			continue
		}
		began, err := time.Parse(time.RFC3339Nano, state.StartedAt)
		if err != nil {
			return next, nil, fmt.Errorf("look at service %s: %w", s.Name, err)
		}
		deadline := began.Add(s.Ready.Timeout)
		if !time.Now().Before(deadline) {
			return next, unready(s.Name, fmt.Sprintf("was not ready within %s: %s", s.Ready.Timeout, probe(state.Health))), nil
		}
		if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	return next, nil, nil
}

// howEnded says how a service came to its end.
func howEnded(state *container.State) string {
	if state.OOMKilled {
		return "used more than the job's memory limit and was killed"
	}
	return fmt.Sprintf("ended with exit code %d", state.ExitCode)
}

// probe is the last word of the command that asks for readiness.
func probe(health *container.Health) string {
	if health == nil || len(health.Log) == 0 {
		return "its ready command has not come to an end"
	}
	last := health.Log[len(health.Log)-1]
	text := strings.TrimSpace(last.Output)
	if len(text) > 500 {
		text = text[:500]
	}
	return strings.TrimSpace(fmt.Sprintf("its ready command exited with %d %s", last.ExitCode, strings.ToValidUTF8(text, "\uFFFD")))
}

func unready(service, what string) *fsm.Outcome {
	return &fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseFailure, Message: "service " + service + " " + what}
}

// watchBeside ends the job where a container dies that the supervisor still waits
// for: why, verdict finds out.
func (r *dockerRun) watchBeside(ctx context.Context) {
	for pause := firstRetry; ctx.Err() == nil; pause = min(2*pause, lastRetry) {
		heard, errs, hangUp := r.d.hearOf(ctx, r.t)
		over, err := r.watchOnce(ctx, heard, errs)
		hangUp()
		if over {
			return
		}
		r.d.log.Debug("watch containers, trying again", "attempt", r.t.Ref.String(), "error", err)
		sleep(ctx, pause)
	}
}

// watchOnce reports whether there is nothing to watch any more.
func (r *dockerRun) watchOnce(ctx context.Context, heard <-chan events.Message, errs <-chan error) (over bool, err error) {
	for {
		records, err := supervise.ReadJournal(r.t.journal())
		if err != nil {
			return false, err
		}
		if begun(records) {
			return true, nil
		}
		dead, err := r.d.deadBeside(ctx, r.t)
		if err != nil {
			return false, err
		}
		if dead != nil {
			r.tell(ctx, r.d.cfg.Grace)
			return true, nil
		}
		select {
		case <-heard:
		case err := <-errs:
			return false, err
		}
	}
}

// begun reports whether a step has.
func begun(records []supervise.Record) bool {
	return slices.ContainsFunc(records, func(r supervise.Record) bool {
		switch r.Kind {
		case supervise.RecordBegun, supervise.RecordStop, supervise.RecordTold, supervise.RecordEnd:
			return false
		}
		return true
	})
}

// deadBeside is the outcome of a job that can't begin, since a service has ended
// that was to become ready, or a container for steps has; nil where none has.
func (d *Docker) deadBeside(ctx context.Context, t Task) (*fsm.Outcome, error) {
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: d.of(t.Ref)})
	if err != nil {
		return nil, fmt.Errorf("look at containers: %w", err)
	}
	for _, c := range found {
		name, role := c.Labels[labelName], c.Labels[labelRole]
		waited := slices.ContainsFunc(t.Work.Spec.Services, func(s pipeline.Service) bool { return s.Name == name && s.Ready != nil })
		if role != roleSatellite && !(role == roleService && waited) {
			continue
		}
		full, err := d.api.ContainerInspect(ctx, c.ID)
		if err != nil {
			return nil, fmt.Errorf("look at %s %s: %w", role, name, err)
		}
		// Not by the list: that may still be behind when the engine tells of a death.
		if s := full.State.Status; s != container.StateExited && s != container.StateDead {
			continue
		}
		if role == roleService {
			return unready(name, howEnded(full.State)+" before it was ready"), nil
		}
		return &fsm.Outcome{Status: fsm.Errored, Message: fmt.Sprintf("the container for steps of image %s ended with exit code %d before they began",
			full.Config.Image, full.State.ExitCode)}, nil
	}
	return nil, nil
}

// endedServices says which services ended while the steps of a job ran that has failed,
// and puts their last lines into its log: it may be why, and no step can tell.
func (d *Docker) endedServices(ctx context.Context, t Task) (message string, err error) {
	var ended []pipeline.Service
	for _, s := range t.Work.Spec.Services {
		found, err := d.api.ContainerInspect(ctx, d.containerName(t)+"-"+roleService+"-"+s.Name)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look at service %s: %w", s.Name, err)
		}
		if !found.State.Running {
			message += "; service " + s.Name + " " + howEnded(found.State) + " while the job ran"
			ended = append(ended, s)
		}
	}
	d.showServices(ctx, t, ended)
	return message, nil
}

// showServices puts the last lines that the services printed into the job's log.
func (d *Docker) showServices(ctx context.Context, t Task, services []pipeline.Service) {
	for _, s := range services {
		out, err := d.api.ContainerLogs(ctx, d.containerName(t)+"-"+roleService+"-"+s.Name,
			container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: fmt.Sprint(lastWords)})
		if err != nil {
			t.say(d.cfg.LogLimit, "what service %s printed can't be read: %v", s.Name, err)
			continue
		}
		var text bytes.Buffer
		_, err = stdcopy.StdCopy(&text, &text, io.LimitReader(out, lastBytes))
		_ = out.Close()
		if text.Len() == 0 {
			t.say(d.cfg.LogLimit, "service %s printed nothing", s.Name)
		}
		for line := range strings.Lines(text.String()) {
			t.say(d.cfg.LogLimit, "service %s: %s", s.Name, strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			d.log.Debug("output of a service was cut", "attempt", t.Ref.String(), "service", s.Name, "error", err)
		}
	}
}
