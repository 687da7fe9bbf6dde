package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

func jobsCommand() *cobra.Command {
	var r remote
	var f client.Filter
	var status string
	var build, before uint64
	cmd := &cobra.Command{Use: "jobs", Short: "List jobs, the newest build's first", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&status, "status", "", "only with this `status`: "+oneOf(jobStatuses))
	cmd.Flags().StringVar(&f.Node, "node", "", "only on this `node`, by its ID or name")
	cmd.Flags().Uint64Var(&build, "build", 0, "only of this `build`")
	cmd.Flags().Uint64Var(&before, "before", 0, "only of builds older than the `build` of this number")
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", 50, "about so `many`, 200 or fewer; the last build's are all there")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		if err := checkFilter(status, jobStatuses, f.Limit); err != nil {
			return err
		}
		f.Status, f.Build, f.Before = fsm.Status(status), fsm.BuildID(build), fsm.BuildID(before)
		list, err := r.client.Jobs(ctx, f)
		if err != nil {
			return err
		}
		if list.Next != 0 && !r.json {
			defer r.say("there are older ones: --before %d", list.Next)
		}
		return r.print(list, func(w io.Writer) {
			row(w, "JOB", "NAME", "STATUS", "REPO", "NODE", "ATTEMPTS", "AGE", "TOOK")
			for _, j := range list.Jobs {
				node := string(j.Node)
				if n := len(j.Attempts); n > 0 && j.Attempts[n-1].NodeName != "" {
					node = j.Attempts[n-1].NodeName
				}
				row(w, j.ID, j.Name, jobStatus(&j), j.Repo, node, fmt.Sprint(len(j.Attempts)), age(j.QueuedAt), took(j.StartedAt, j.EndedAt))
			}
		})
	}))
}
