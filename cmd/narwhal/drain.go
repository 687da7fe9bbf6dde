package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func drainCommand() *cobra.Command {
	var r remote
	var resume bool
	var deadline time.Duration
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Give a node no new jobs; what runs on it runs on", Args: cobra.ExactArgs(1),
		Long: "Give a node no new jobs. What runs on it runs on: for as long as it takes, or until --deadline is over;\n" +
			"then it is stopped, and runs again on other nodes. A job with on_node_loss: fail ends there instead.",
		Example: "  narwhal drain rack-2 --deadline 30m\n  narwhal drain --resume rack-2",
	}
	cmd.Flags().BoolVar(&resume, "resume", false, "give it jobs again")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "how long what runs there may go on, such as 30m; 0s is not at all (default: for ever)")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		if resume && cmd.Flags().Changed("deadline") {
			return usage("--resume and --deadline exclude each other")
		}
		if resume {
			n, err := r.client.Resume(ctx, args[0])
			if err == nil {
				r.say("node %s (%s) gets jobs again", n.Name, n.ID)
			}
			return err
		}
		if cmd.Flags().Changed("deadline") {
			if deadline < 0 {
				return usage("--deadline %s: want 0s or more", deadline)
			}
			n, err := r.client.DrainWithin(ctx, args[0], deadline)
			if err == nil {
				r.say("node %s (%s) gets no new jobs; %d are on it, and move at %s. `narwhal drain --resume %s` takes it back",
					n.Name, n.ID, n.Jobs, n.DrainUntil.Local().Format(time.TimeOnly), n.Name)
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
