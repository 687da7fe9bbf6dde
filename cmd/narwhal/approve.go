package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

func approveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "approve JOB", Short: "Let a job, or a step of it, go on that waits for a person", Args: cobra.ExactArgs(1),
		Long: "Let a job go on that waits for a person, since its `when` says manual, or with --step a step of a job that runs.\n" +
			"`narwhal jobs --status held` lists the jobs, `narwhal build` shows the steps.",
	}
	return decideCommand(cmd, true)
}

func rejectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "reject JOB", Short: "End a job that waits for a person, or fail its step", Args: cobra.ExactArgs(1)}
	return decideCommand(cmd, false)
}

func decideCommand(cmd *cobra.Command, approve bool) *cobra.Command {
	var r remote
	step := cmd.Flags().String("step", "", "decide on this step of the job, instead of on the job")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := fsm.ParseJobID(args[0])
		switch {
		case err != nil:
			return usage("%w", err)
		case cmd.Flags().Changed("step") && *step == "":
			return usage("--step is empty: want the name of a step")
		case *step != "":
			return r.decideStep(ctx, id, *step, approve)
		}
		decide := r.client.Reject
		if approve {
			decide = r.client.Approve
		}
		j, err := decide(ctx, id)
		if err != nil {
			return err
		}
		r.say("job %s, %s, is %s", j.ID, j.Name, withCause(j.Status, j.Cause))
		return nil
	})
}

func (r *remote) decideStep(ctx context.Context, id fsm.JobID, step string, approve bool) error {
	j, err := r.client.DecideStep(ctx, id, step, approve)
	if err != nil {
		return err
	}
	said := "rejected"
	if approve {
		said = "approved"
	}
	r.say("step %s of job %s, %s, is %s", step, j.ID, j.Name, said)
	return nil
}

// jobStatus says how a job stands, and what it waits for.
func jobStatus(j *api.Job) string {
	text := withCause(j.Status, j.Cause)
	if j.Allowed && (j.Status == fsm.Failed || j.Status == fsm.Errored) {
		text += ", allowed"
	}
	if len(j.Waiting) > 0 {
		text += ", step " + j.Waiting[0] + " waits for a person"
	}
	return text
}
