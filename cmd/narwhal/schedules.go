package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
)

func schedulesCommand() *cobra.Command {
	var r remote
	var repo string
	cmd := &cobra.Command{
		Use: "schedules", Short: "List what the clock starts, and when", Args: cobra.NoArgs,
		Long: "List what the clock starts: the schedules in the files of the branches' newest commits, with their next\ntimes, in this machine's zone, and the builds that they have started last.",
	}
	cmd.Flags().StringVar(&repo, "repo", "", "only of this `repository`")
	cmd.AddCommand(schedulesRemove())
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		all, err := r.client.Schedules(ctx, repo)
		if err != nil {
			return err
		}
		return r.print(struct {
			Schedules []api.Schedule `json:"schedules"`
		}{all}, func(w io.Writer) {
			row(w, "REPO", "BRANCH", "CRON", "TIMEZONE", "NEXT", "LAST", "BUILD")
			for _, s := range all {
				build := any("")
				if s.Build != 0 {
					build = s.Build
				}
				row(w, s.Repo, s.Branch, s.Cron, s.Timezone, localTime(s.Next), localTime(s.Last), build)
			}
		})
	}))
}

func schedulesRemove() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "rm REPO BRANCH", Short: "Forget a branch's schedules, until its next commit brings some", Args: cobra.ExactArgs(2),
		Example: "  narwhal schedules rm acme/api old-release",
	}
	return r.command(cmd, func(ctx context.Context, args []string) error {
		return r.client.RemoveSchedules(ctx, args[0], args[1])
	})
}

func localTime(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}
