package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

func buildsCommand() *cobra.Command {
	var r remote
	var f client.Filter
	var status string
	var before uint64
	cmd := &cobra.Command{Use: "builds", Short: "List builds, the newest first", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&f.Repo, "repo", "", "only of this `repository`")
	cmd.Flags().StringVar(&f.Branch, "branch", "", "only of this `branch`")
	cmd.Flags().StringVar(&status, "status", "", "only with this `status`: queued, running, passed, failed, errored or canceled")
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", 20, "at most so `many`, 200 or fewer")
	cmd.Flags().Uint64Var(&before, "before", 0, "only older than the `build` of this number")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		f.Status, f.Before = fsm.Status(status), fsm.BuildID(before)
		list, err := r.client.Builds(ctx, f)
		if err != nil {
			return err
		}
		if list.Next != 0 && !r.json {
			defer r.say("there are older ones: --before %d", list.Next)
		}
		return r.print(list, func(w io.Writer) {
			row(w, "BUILD", "STATUS", "REPO", "REF", "COMMIT", "AGE", "TOOK", "MESSAGE")
			for _, b := range list.Builds {
				ref := strings.TrimPrefix(strings.TrimPrefix(b.Ref, "refs/heads/"), "refs/")
				row(w, b.ID, b.Status, b.Repo, ref, short(b.SHA), age(b.CreatedAt), took(b.StartedAt, b.EndedAt), b.Message)
			}
		})
	}))
}
