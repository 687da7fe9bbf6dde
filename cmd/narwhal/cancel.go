package main

import (
	"context"

	"github.com/spf13/cobra"
)

func cancelCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "cancel BUILD", Short: "Cancel a build", Args: cobra.ExactArgs(1)}
	return r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := parseBuild(args[0])
		if err != nil {
			return err
		}
		b, err := r.client.CancelBuild(ctx, id)
		if err != nil {
			return err
		}
		if b.Status.Terminal() {
			r.say("build %d is %s", b.ID, b.Status)
		} else {
			r.say("build %d is told to stop; `narwhal build --wait %d` waits for its end", b.ID, b.ID)
		}
		return nil
	})
}
