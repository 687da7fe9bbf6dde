package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/fsm"
)

func artifactsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "artifacts", Short: "List and download the files that jobs left", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(artifactsList(), artifactsGet())
	return cmd
}

func artifactsList() *cobra.Command {
	var r remote
	var attempt int
	cmd := &cobra.Command{Use: "list JOB", Short: "List the files that a job left", Args: cobra.ExactArgs(1)}
	cmd.Flags().IntVar(&attempt, "attempt", 0, "of this `attempt` of the job, from 1 (default: the newest that left something)")
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := fsm.ParseJobID(args[0])
		if err != nil {
			return usage("%w", err)
		}
		list, err := r.client.Artifacts(ctx, id, attempt)
		if err != nil {
			return err
		}
		return r.print(list, func(w io.Writer) {
			row(w, "SIZE", "MODE", "PATH")
			for _, f := range list.Files {
				row(w, f.Size, f.Mode, f.Path)
			}
			if list.More {
				row(w, "…", "", fmt.Sprintf("%d files in all: narwhal artifacts get %s", list.Artifacts.Files, id))
			}
		})
	}))
}

func artifactsGet() *cobra.Command {
	var r remote
	var attempt int
	var out string
	cmd := &cobra.Command{
		Use: "get JOB [PATH]", Short: "Download one file that a job left, or all of them", Args: cobra.RangeArgs(1, 2),
		Long: "Download one file that a job left, or, without a PATH, all of them into a folder. What is there under\nthe same names is replaced.",
		Example: "  narwhal artifacts get 42.1 -o build          all of them, into the folder build\n" +
			"  narwhal artifacts get 42.1 dist/app          one, as ./app\n" +
			"  narwhal artifacts get 42.1 report.xml -o -   one, to standard output",
	}
	cmd.Flags().IntVar(&attempt, "attempt", 0, "of this `attempt` of the job, from 1 (default: the newest that left something)")
	cmd.Flags().StringVarP(&out, "output", "o", "", "the `file`, or for all of them the folder, to write to; - is standard output")
	return r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := fsm.ParseJobID(args[0])
		if err != nil {
			return usage("%w", err)
		}
		if len(args) == 2 {
			return r.getFile(ctx, id, attempt, args[1], out)
		}
		return r.getAll(ctx, id, attempt, out)
	})
}

func (r *remote) getAll(ctx context.Context, id fsm.JobID, attempt int, dir string) (err error) {
	body, err := r.client.Archive(ctx, id, attempt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	switch dir {
	case "-":
		return usage("--output -: all the files of a job go into a folder: give its name")
	case "":
		dir = "artifacts-" + id.String()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sum, err := archive.Unpack(ctx, body, archive.UnpackOptions{Places: archive.Places{Root: dir}})
	if err != nil {
		return err
	}
	r.say("%d files in %s", sum.Files, dir)
	return nil
}

func (r *remote) getFile(ctx context.Context, id fsm.JobID, attempt int, name, out string) (err error) {
	body, err := r.client.Artifact(ctx, id, attempt, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if out == "-" {
		_, err := io.Copy(r.out, body)
		return err
	}
	if out == "" {
		out = path.Base(name)
	}
	// Beside its place first: a download that breaks off leaves what was there.
	f, err := os.CreateTemp(filepath.Dir(out), ".narwhal-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, body)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return os.Rename(f.Name(), out)
}
