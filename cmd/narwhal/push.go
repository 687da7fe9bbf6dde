package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/bundle"
)

func pushCommand() *cobra.Command {
	var r remote
	var detach bool
	var dir, repo string
	var inputs []string
	cmd := &cobra.Command{
		Use: "push [REVISION]", Short: "Build this checkout, or a commit of it", Args: cobra.MaximumNArgs(1),
		Long: "Build this git checkout as it lies here, with what is not committed, or a commit of it. No\nforge is needed: what is built travels along, and lies on two nodes before it is accepted.\nThe logs are printed as they come; the exit status is 0 if the build passed, else 1.",
		Example: "  narwhal push               what lies here, changes and new files included\n" +
			"  narwhal push HEAD          the last commit only\n  narwhal push --detach      don't wait: print the build's number",
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "don't wait for the build: print its number")
	cmd.Flags().StringVarP(&dir, "directory", "C", ".", "the `folder` of the checkout")
	cmd.Flags().StringVar(&repo, "repo", "", "the repository's `name` (default: from the remote origin, else the folder's)")
	cmd.Flags().StringArrayVar(&inputs, "input", nil, "an input that its narwhal.yml asks for, as `name=value`; may be given more than once")
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		if err := checkPairs(inputs); err != nil {
			return err
		}
		revision := ""
		if len(args) > 0 {
			revision = args[0]
		}
		return r.push(ctx, pushed{dir: dir, revision: revision, repo: repo, inputs: inputs, detach: detach})
	}))
}

// pushed is what `narwhal push` was asked for.
type pushed struct {
	dir, revision, repo string
	inputs              []string
	detach              bool
}

func (r *remote) push(ctx context.Context, p pushed) (err error) {
	scratch, err := os.MkdirTemp("", "narwhal-push-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	made, err := bundle.Create(ctx, p.dir, p.revision, scratch)
	if err != nil {
		return err
	}
	if p.repo != "" {
		made.Repo = p.repo
	}
	taken, err := r.client.Push(ctx, client.Push{
		Repo: made.Repo, SHA: made.SHA, Ref: made.Ref, Message: made.Message, Author: made.Author, Inputs: p.inputs,
		Key: client.NewKey(), Size: made.Size, Open: func() (io.ReadCloser, error) { return os.Open(made.Path) },
	})
	if err != nil {
		return err
	}
	what := "commit " + short(made.SHA)
	if made.Dirty {
		what = "uncommitted changes"
	}
	r.say("build %d: %s of %s (%d KiB, on %d nodes)", taken.Build.ID, what, made.Repo, (made.Size+1023)>>10, taken.Copies)
	if p.detach {
		if r.json {
			return r.print(taken, nil)
		}
		fmt.Fprintln(r.out, taken.Build.ID)
		return nil
	}
	b, err := r.watch(ctx, taken.Build.ID)
	if err != nil {
		return err
	}
	if r.json {
		if err := r.print(b, nil); err != nil {
			return err
		}
	}
	r.say("build %d %s", b.ID, withCause(b.Status, b.Cause))
	if b.Reason != "" { // it may have several lines, such as all that is wrong with a file
		r.say("%s", strings.ReplaceAll(b.Reason, "\n", "\nnarwhal: "))
	}
	return verdict(b)
}
