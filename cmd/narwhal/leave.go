package main

import (
	"context"

	"github.com/spf13/cobra"
)

func leaveCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "leave", Short: "Take this host's node out of the cluster for good", Args: cobra.NoArgs,
		Long: "Take the node at --addr, by default this host's, out of the cluster for good: another takes\nits place as voter and leader, then its process ends. To stop a node for a while, end its\nprocess instead; to empty it first, drain it.",
	}
	return r.command(cmd, func(ctx context.Context, _ []string) error {
		left, err := r.client.Leave(ctx)
		if err == nil {
			r.say("node %s has left the cluster", left.Node)
		}
		return err
	})
}
