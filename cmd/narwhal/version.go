package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// What this version says by gossip of what it can talk to. A node that announces none, of
// before there were numbers, has 0.
const (
	// protocol is that of the messages between nodes. It is raised with a change of them
	// that a node of before could not take, after that one is released.
	protocol = 1
	// oldestProtocol is raised with the first release that need not talk to nodes of before
	// it: only then can what they need go.
	oldestProtocol = 0
)

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print this binary's version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if asJSON {
				return writeJSONLine(out, map[string]string{
					"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			fmt.Fprintf(out, "narwhal %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
