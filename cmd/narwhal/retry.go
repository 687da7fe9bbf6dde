package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api/client"
)

func retryCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "retry BUILD", Short: "Build the same commit again", Args: cobra.ExactArgs(1),
		Long: "Build the same commit again, as a new build, whose number is printed.",
	}
	return r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := parseBuild(args[0])
		if err != nil {
			return err
		}
		b, err := r.client.RetryBuild(ctx, id, client.NewKey())
		if err != nil {
			return err
		}
		fmt.Fprintln(r.out, b.ID)
		r.say("build %d builds the commit of build %d again; `narwhal logs -f %d` follows it", b.ID, id, b.ID)
		return nil
	})
}
