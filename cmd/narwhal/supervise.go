package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/supervise"
)

// superviseCommand is what runs as the first process of a job's container. It is
// no command for people.
func superviseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "supervise DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := supervise.Main(cmd.Context(), args[0], os.Environ()); code != 0 {
				return exitError{code: code}
			}
			return nil
		},
	}
}
