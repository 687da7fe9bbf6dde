package executor

import (
	"context"
	"fmt"
	"slices"
	"syscall"

	"github.com/docker/docker/api/types/container"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// verdict puts the journal and the engine's word together. state is nil where the
// container is gone.
func (d *Docker) verdict(t Task, records []supervise.Record, state *container.State) fsm.Outcome {
	o, told := supervise.Outcome(records)
	asked := supervise.Has(records, supervise.RecordStop)
	for _, r := range records {
		if !told && r.Kind == supervise.RecordStep {
			o.Steps = append(o.Steps, *r.Result)
		}
	}
	switch {
	// The flag is set for any process of the container, so it tells nothing where a
	// step accounts for it, or the supervisor has lived to say which one did.
	case state != nil && state.OOMKilled && !asked && !told && !outOfMemory(o.Steps):
		o.Status, o.Cause = fsm.Failed, fsm.CauseOOM
		o.ExitCode = max(o.ExitCode, state.ExitCode)
		o.Message = fmt.Sprintf("it used more than its memory limit of %s", bytesText(memoryLimit(t)))
	case told && (o.Status != fsm.Canceled || asked):
		// The supervisor's word stands.
	case told:
		o = lost(o, "its container was stopped from outside of narwhal")
	case asked && state == nil && len(records) == 1:
		o.Status, o.Cause, o.Message = fsm.Canceled, fsm.CauseCanceled, "canceled before it began"
	case asked:
		o.Status, o.Cause, o.Message = fsm.Canceled, fsm.CauseCanceled, "canceled; it had to be killed"
	case state == nil:
		o = lost(o, "its container was removed from outside of narwhal")
	default:
		o = lost(o, fmt.Sprintf("its container ended with exit code %d and no result: it was killed, or the machine or the engine went down %s",
			state.ExitCode, state.Error))
	}
	o.LogBytes = t.endLog(d.cfg.LogLimit, d.log)
	return o
}

func outOfMemory(steps []fsm.StepResult) bool {
	return slices.ContainsFunc(steps, func(s fsm.StepResult) bool { return s.Cause == fsm.CauseOOM })
}

// lost is how a job ends that the machine didn't let end. It is run again.
func lost(o fsm.Outcome, message string) fsm.Outcome {
	o.Status, o.Cause, o.Message = fsm.Errored, fsm.CauseNodeLost, message
	return o
}

// besideVerdict is what the engine says of services and satellites, where that
// tells more than the outcome: no step began because a service ended, or a step's
// container went away from under it.
func (d *Docker) besideVerdict(ctx context.Context, t Task, records []supervise.Record, o fsm.Outcome) (fsm.Outcome, error) {
	if o.Status == fsm.Passed || supervise.Has(records, supervise.RecordStop) {
		return o, nil
	}
	if !begun(records) {
		dead, err := d.deadBeside(ctx, t)
		if err != nil {
			return o, err
		}
		switch {
		case dead != nil:
			o.Status, o.Cause, o.Message = dead.Status, dead.Cause, dead.Message
		case o.Status == fsm.Errored && o.Cause == "" && len(t.Work.Spec.Services) > 0:
			o.Cause = fsm.CauseFailure // so that who wants may have it tried again
		}
		d.showServices(ctx, t, t.Work.Spec.Services)
		return o, nil
	}
	more, err := d.endedServices(ctx, t)
	if err != nil {
		return o, err
	}
	o.Message += more
	args := d.of(t.Ref)
	args.Add("label", labelRole+"="+roleSatellite)
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return o, fmt.Errorf("look at the steps' containers: %w", err)
	}
	for _, c := range found {
		full, err := d.api.ContainerInspect(ctx, c.ID)
		if err != nil {
			return o, fmt.Errorf("look at the steps' containers: %w", err)
		}
		// Of what else was killed in it, its first process has told.
		killed := full.State.OOMKilled && full.State.ExitCode == 128+int(syscall.SIGKILL)
		if killed && (o.Cause == "" || o.Cause == fsm.CauseNodeLost) {
			o.Status, o.Cause = fsm.Failed, fsm.CauseOOM
			o.Message = fmt.Sprintf("a step in image %s used more than the job's memory limit of %s", full.Config.Image, bytesText(memoryLimit(t)))
		}
	}
	return o, nil
}
