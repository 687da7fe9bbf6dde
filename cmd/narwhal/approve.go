package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

func approveCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "approve JOB", Short: "Let a job go on that waits for a person", Args: cobra.ExactArgs(1),
		Long: "Let a job go on that waits for a person, since its `when` says manual. `narwhal jobs --status held`\nlists them.",
	}
	return r.command(cmd, func(ctx context.Context, args []string) error {
		return r.decide(args[0], func(id fsm.JobID) (api.Job, error) { return r.client.Approve(ctx, id) })
	})
}

func rejectCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "reject JOB", Short: "End a job that waits for a person", Args: cobra.ExactArgs(1)}
	return r.command(cmd, func(ctx context.Context, args []string) error {
		return r.decide(args[0], func(id fsm.JobID) (api.Job, error) { return r.client.Reject(ctx, id) })
	})
}

func (r *remote) decide(text string, decide func(fsm.JobID) (api.Job, error)) error {
	id, err := fsm.ParseJobID(text)
	if err != nil {
		return usage("%w", err)
	}
	j, err := decide(id)
	if err != nil {
		return err
	}
	r.say("job %s, %s, is %s", j.ID, j.Name, withCause(j.Status, j.Cause))
	return nil
}
