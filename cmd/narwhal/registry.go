package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
)

func registryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "registry", Short: "Keep credentials of image registries, encrypted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(registrySet(), registryRemove())
	return cmd
}

func registrySet() *cobra.Command {
	var r remote
	var v valueFlags
	var user string
	cmd := &cobra.Command{
		Use: "set HOST", Short: "Keep the credentials with which images are pulled from a registry", Args: cobra.ExactArgs(1),
		Long:    "Keep the credentials with which images are pulled from a registry. HOST is what stands before an\nimage's name, or docker.io. The password, or a token, is read from standard input or a file.",
		Example: "  narwhal registry set registry.example.com:5000 --username ci < password",
	}
	v.register(cmd)
	cmd.Flags().StringVar(&user, "username", "", "the `name` to sign in with")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		if user == "" {
			return usage("--username is missing")
		}
		password, err := v.read(cmd)
		if err != nil {
			return err
		}
		if err := r.client.SetRegistry(ctx, v.repo, args[0], api.Credentials{Username: user, Password: password}); err != nil {
			return err
		}
		whose := "the jobs of all repositories"
		if v.repo != "" {
			whose = "the jobs of " + v.repo
		}
		r.say("credentials for %s are kept for %s", args[0], whose)
		return nil
	})
}

func registryRemove() *cobra.Command {
	var r remote
	var repo string
	cmd := &cobra.Command{Use: "rm HOST", Short: "Forget the credentials of a registry", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&repo, "repo", "", "those of this `repository` (default: those for all)")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		return r.client.RemoveRegistry(ctx, repo, args[0])
	})
}
