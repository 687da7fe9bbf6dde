package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/fsm"
)

func whyCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "why JOB", Short: "Say what keeps a job from running, node by node", Args: cobra.ExactArgs(1)}
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := fsm.ParseJobID(args[0])
		if err != nil {
			return usage("%w", err)
		}
		e, err := r.client.Why(ctx, id)
		if err != nil {
			return err
		}
		return r.print(e, func(w io.Writer) {
			row(w, fmt.Sprintf("job %s", e.Job), e.Status)
			for _, reason := range e.Reasons {
				name := reason.Name
				if name == "" {
					name = string(reason.Node)
				}
				if name == "" {
					name = "job"
				}
				text := reason.Message
				if reason.Never {
					text += " (waiting won't help)"
				}
				row(w, name, text)
			}
		})
	}))
}
