package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/joblog/mask"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Keep what jobs may name as secrets, encrypted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(secretSet(), secretList(), secretRemove())
	return cmd
}

// valueFlags say where a value that must not stand on the command line comes from.
type valueFlags struct{ repo, file string }

func (v *valueFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.repo, "repo", "", "for the jobs of this `repository` only (default: of all)")
	cmd.Flags().StringVar(&v.file, "file", "", "the `file` with the value (default: standard input)")
}

// read gives the value without the line break at its end, which editors and echo add.
func (v *valueFlags) read(cmd *cobra.Command) (string, error) {
	var in io.Reader = cmd.InOrStdin()
	if v.file != "" {
		f, err := os.Open(v.file)
		if err != nil {
			return "", fmt.Errorf("--file: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	} else if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "narwhal: type the value, then Ctrl-D on a line of its own")
		}
	}
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return "", fmt.Errorf("read value: %w", err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return "", errors.New("the value is empty")
	}
	return value, nil
}

func secretSet() *cobra.Command {
	var r remote
	var v valueFlags
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Keep a secret under a name, in the place of what was there", Args: cobra.ExactArgs(1),
		Long: "Keep a secret under a name. Its value is read from standard input or a file, so that it stands\nin no argument list. Jobs get it as an environment variable where they name it.",
		Example: "  narwhal secret set DEPLOY_TOKEN --repo acme/api < token\n" +
			"  pass show ci/chat | narwhal secret set CHAT_URL",
	}
	v.register(cmd)
	return r.command(cmd, func(ctx context.Context, args []string) error {
		value, err := v.read(cmd)
		if err != nil {
			return err
		}
		if err := r.client.SetSecret(ctx, v.repo, args[0], value); err != nil {
			return err
		}
		r.say("%s is kept for %s", args[0], jobsOf(v.repo))
		if len(value) < mask.Shortest {
			r.say("it is so short that logs can't hide it: use %d bytes or more", mask.Shortest)
		}
		return nil
	})
}

func jobsOf(repo string) string {
	if repo == "" {
		return "the jobs of all repositories that name it"
	}
	return "the jobs of " + repo + " that name it"
}

func secretList() *cobra.Command {
	var r remote
	var repo string
	cmd := &cobra.Command{Use: "list", Short: "List secrets, without their values", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&repo, "repo", "", "only what this `repository`'s jobs can name")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		all, err := r.client.Secrets(ctx, repo)
		if err != nil {
			return err
		}
		return r.print(struct {
			Secrets []api.Secret `json:"secrets"`
		}{all}, func(w io.Writer) {
			row(w, "NAME", "REPO", "SET BY", "AGE")
			for _, s := range all {
				name, of := s.Name, s.Repo
				if s.Registry != "" {
					name = "registry " + s.Registry
				}
				if of == "" {
					of = "all"
				}
				row(w, name, of, s.By, age(s.At))
			}
		})
	}))
}

func secretRemove() *cobra.Command {
	var r remote
	var repo string
	cmd := &cobra.Command{Use: "rm NAME", Short: "Forget a secret", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&repo, "repo", "", "that of this `repository` (default: the one for all)")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		return r.client.RemoveSecret(ctx, repo, args[0])
	})
}
