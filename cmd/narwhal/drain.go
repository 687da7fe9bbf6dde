package main

import (
	"context"

	"github.com/spf13/cobra"
)

func drainCommand() *cobra.Command {
	var r remote
	var resume bool
	cmd := &cobra.Command{Use: "drain NODE", Short: "Give a node no new jobs; what runs on it runs on", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&resume, "resume", false, "give it jobs again")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		if resume {
			n, err := r.client.Resume(ctx, args[0])
			if err == nil {
				r.say("node %s (%s) gets jobs again", n.Name, n.ID)
			}
			return err
		}
		n, err := r.client.Drain(ctx, args[0])
		if err == nil {
			r.say("node %s (%s) gets no new jobs; %d are on it. `narwhal drain --resume %s` takes it back", n.Name, n.ID, n.Jobs, n.Name)
		}
		return err
	})
}
