package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/supervise"
)

// superviseCommand is what runs as the first process of a job's containers. It is
// no command for people.
func superviseCommand() *cobra.Command {
	var (
		satellite string
		warm      bool
	)
	cmd := &cobra.Command{
		Use:    "supervise DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var code int
			switch {
			case satellite != "":
				code = supervise.Satellite(cmd.Context(), satellite, args[0], os.Environ())
			case warm:
				code = supervise.Await(cmd.Context(), args[0], os.Environ())
			default:
				code = supervise.Main(cmd.Context(), args[0], os.Environ())
			}
			if code != 0 {
				return exitError{code: code}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&satellite, "satellite", "", "run the steps that the job's own first process sends to this name")
	cmd.Flags().BoolVar(&warm, "warm", false, "wait until told to begin, and take the secrets then")
	return cmd
}
