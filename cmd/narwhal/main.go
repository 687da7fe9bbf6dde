// Command narwhal is the one binary: a node of the cluster, the webhook side
// alone, and the command line. It owns flags, environment and wiring; what the
// parts do is in their packages.
//
// Start reading at runNode (compose.go): it is the system's diagram.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

// Exit statuses: 0 passed, 1 failed, 2 usage, and those that a supervisor such
// as systemd must not answer with a restart.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitForeign     = 78  // EX_CONFIG: another cluster's node
	exitInterrupted = 130 // as the shells say it: 128 and SIGINT
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the process, whatever it waits for
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitInterrupted // whoever pressed Ctrl-C knows why
	}
	var status exitError
	if errors.As(err, &status) {
		if status.err != nil {
			fmt.Fprintf(os.Stderr, "narwhal: %v\n", status.err)
		}
		return status.code
	}
	fmt.Fprintf(os.Stderr, "narwhal: %v\n", err)
	return exitFailed
}

// exitError is an error that says which status the process ends with. With a nil
// err all has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "narwhal",
		Short:         "A self-hosted CI without a server",
		Long:          "narwhal is a CI whose nodes are all equal: each takes webhooks, serves the API, runs\njobs and may be elected leader. Start the first with `narwhal node`; it prints the line\nthat starts the next.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(nodeCommand(), agentCommand(), recoverCommand(), superviseCommand())
	root.AddCommand(clientCommands()...)
	root.AddCommand(fileCommands()...)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		checkUsage(cmd)
	}
	return root
}

// noCommand says that what was given is no command. Cobra says it too, but not so
// that it can be told from a failure.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if like := root.SuggestionsFor(args[0]); len(like) > 0 {
		hint = fmt.Sprintf(", did you mean %s?", strings.Join(like, " or "))
	}
	return usage("unknown command %q%s; see `%s --help`", args[0], hint, root.CommandPath())
}

// checkUsage makes wrong arguments end with the status of usage errors.
func checkUsage(cmd *cobra.Command) {
	args := cmd.Args
	cmd.Args = func(c *cobra.Command, given []string) error {
		if args == nil {
			return nil
		}
		if err := args(c, given); err != nil {
			return usage("%w; see `%s --help`", err, c.CommandPath())
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		checkUsage(sub)
	}
}
