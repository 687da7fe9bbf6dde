package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
)

// clientCommands are the commands that talk to a node.
func clientCommands() []*cobra.Command {
	return []*cobra.Command{
		pushCommand(), buildsCommand(), buildCommand(), jobsCommand(), logsCommand(), cancelCommand(), retryCommand(), approveCommand(), rejectCommand(),
		artifactsCommand(), schedulesCommand(), hooksCommand(), auditCommand(), secretCommand(), registryCommand(), snapshotCommand(), nodesCommand(), statusCommand(), whyCommand(), drainCommand(), drillCommand(), leaveCommand(), versionCommand(),
	}
}

// remote is how a command reaches a node, and how it prints.
type remote struct {
	addrs     []string
	token     string
	tokenFile string
	dataDir   string
	json      bool

	client *client.Client
	out    io.Writer // data
	err    io.Writer // everything else
}

// connectionFlags can be given by the environment, for every command. Others can't:
// inside a job NARWHAL_NODE and the like say where it runs.
var connectionFlags = []string{"addr", "token", "token-file", "data-dir"}

// command makes a command that talks to a node: run gets a client that is ready.
// Its flags are added to what the caller has set.
func (r *remote) command(cmd *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	f := cmd.Flags()
	f.StringSliceVar(&r.addrs, "addr", []string{"http://127.0.0.1:9797"}, "the `URL` of a node, or several to try in turn (NARWHAL_ADDR)")
	f.StringVar(&r.token, "token", "", "the API `token`; better by NARWHAL_TOKEN or --token-file")
	f.StringVar(&r.tokenFile, "token-file", "", "a `file` with the API token (default: api-token in --data-dir)")
	f.StringVar(&r.dataDir, "data-dir", "/var/lib/narwhal", "the data directory of this host's node (NARWHAL_DATA_DIR)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.open(cmd); err != nil {
			return err
		}
		err := run(cmd.Context(), args)
		// The next command may be a read, by another process.
		r.client.Settle(context.WithoutCancel(cmd.Context()))
		return r.explain(err)
	}
	return cmd
}

// reads adds --json, for commands that show something.
func (r *remote) reads(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&r.json, "json", false, "print JSON")
	return cmd
}

func (r *remote) open(cmd *cobra.Command) error {
	r.out, r.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, name := range connectionFlags {
		value, set := os.LookupEnv(variable(name))
		if f := cmd.Flags().Lookup(name); set && value != "" && !f.Changed {
			if err := cmd.Flags().Set(name, value); err != nil {
				return usage("%s: %w", variable(name), err)
			}
		}
	}
	token, err := r.findToken()
	if err != nil {
		return err
	}
	if r.client, err = client.New(client.Config{Addrs: r.addrs, Token: token}); err != nil {
		return usage("--addr: %w", err)
	}
	return nil
}

func (r *remote) findToken() (string, error) {
	if r.token != "" {
		return r.token, nil
	}
	if r.tokenFile != "" {
		token, err := secretFile(r.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return token, nil
	}
	path := filepath.Join(r.dataDir, "api-token")
	token, err := secretFile(path)
	switch {
	case err == nil:
		return token, nil
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("the API token in %s can't be read by this user: run it with sudo, or give --token-file", path)
	default:
		return "", fmt.Errorf("there is no API token in %s: on a node's host give its --data-dir, elsewhere give --token-file or NARWHAL_TOKEN", path)
	}
}

// explain says what to do about an error.
func (r *remote) explain(err error) error {
	var p *api.Problem
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrUnreachable):
		return fmt.Errorf("%w\nis `narwhal node` running there? Give another node's address by --addr or NARWHAL_ADDR", err)
	case errors.As(err, &p) && p.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w; give it by --token-file or NARWHAL_TOKEN", err)
	}
	return err
}

// print shows v as JSON where that is wanted, else by text.
func (r *remote) print(v any, text func(w io.Writer)) error {
	if r.json {
		enc := json.NewEncoder(r.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// say tells people what goes on.
func (r *remote) say(format string, args ...any) {
	fmt.Fprintf(r.err, "narwhal: "+format+"\n", args...)
}

// row writes a table's line. What people wrote is kept from making columns and
// lines of its own.
func row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, cell := range cells {
		text[i] = strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return ' '
			}
			return c
		}, fmt.Sprint(cell))
		if text[i] == "" {
			text[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(text, "\t"))
}

func age(t time.Time) string {
	switch d := time.Since(t); {
	case t.IsZero():
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// took is how long something ran, or has run.
func took(from, to time.Time) string {
	if from.IsZero() {
		return ""
	}
	if to.IsZero() {
		return time.Since(from).Round(time.Second).String() + "…"
	}
	return to.Sub(from).Round(10 * time.Millisecond).String()
}

func short(sha string) string { return sha[:min(len(sha), 10)] }
