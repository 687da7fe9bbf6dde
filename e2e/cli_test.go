package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestCLI runs the scripts of testdata/cli, side by side, against one cluster. n1 to
// n3 are whole all the time, though n3 is drained for a while; n4 is there to
// leave. Beside testscript's own commands the scripts have:
//
//	exits STATUS COMMAND…   runs it, and wants just that exit status
//	json [PATH=VALUE…]      standard output is JSON, one value or more; the last one has these
//	keep NAME               $NAME is what standard output was, without the space around it
//	fill FILE…              puts the script's folder for $WORK in files
//	await FILE TEXT         waits until a file, which may not be there yet, has the text
//	held REPO JOB [STEP]    waits until a job of that name, or its step, waits for a person: $HELD is the job's ID,
//	                        $HELDBUILD its build
func TestCLI(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{})
	n4, err := l.Add(deadline(t, patience))
	must(t, err)
	settle(t, l)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "cli"),
		Setup: func(env *testscript.Env) error {
			set := func(name, value string) { env.Setenv(name, value) }
			set("PATH", filepath.Dir(binary)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			set("HOME", env.WorkDir)
			set("NARWHAL_ADDR", l.Nodes[0].API)
			set("NARWHAL_DATA_DIR", l.Nodes[0].Dir)
			set("TOKEN", l.Nodes[0].Token)
			set("N2", l.Nodes[1].API)
			set("N4", n4.API)
			for _, who := range []string{"AUTHOR", "COMMITTER"} {
				set("GIT_"+who+"_NAME", "lab")
				set("GIT_"+who+"_EMAIL", "lab@example.org")
			}
			set("GIT_CONFIG_NOSYSTEM", "1")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "json": isJSON, "keep": keep, "fill": fill, "await": awaitFile,
			"held": heldJob(nodeClient(t, l.Nodes[0])),
		},
		RequireExplicitExec: true,
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: json [PATH=VALUE…]")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var last any
	for n := 0; ; n++ {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			ts.Fatalf("value %d: %v", n+1, err)
		}
		last = v
	}
	for _, arg := range args {
		path, want, _ := strings.Cut(arg, "=")
		if got := fmt.Sprint(at(last, path)); got != want {
			ts.Fatalf("%s is %s, want %s", path, got, want)
		}
	}
}

// at finds what a path such as jobs.0.status names.
func at(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: fill FILE…")
	}
	for _, file := range args {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(strings.ReplaceAll(ts.ReadFile(file), "$WORK", ts.Getenv("WORK"))), 0o644))
	}
}

func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		switch {
		case err == nil && bytes.Contains(data, []byte(args[1])):
			return
		case err != nil && !errors.Is(err, os.ErrNotExist), time.Now().After(end):
			ts.Fatalf("%s has no %q: %q, %v", args[0], args[1], data, err)
		}
	}
}

func heldJob(c *client.Client) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 && len(args) != 3 {
			ts.Fatalf("usage: held REPO JOB [STEP]")
		}
		status := fsm.Held
		if len(args) == 3 {
			status = fsm.Running
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ts.Check(lab.Await(ctx, "job "+args[1]+" to be held", func(ctx context.Context) (bool, error) {
			list, err := c.Jobs(ctx, client.Filter{Status: status, Limit: 200})
			for _, j := range list.Jobs {
				if j.Repo == args[0] && j.Name == args[1] && (len(args) == 2 || slices.Contains(j.Waiting, args[2])) {
					ts.Setenv("HELD", j.ID.String())
					ts.Setenv("HELDBUILD", fmt.Sprint(j.Build))
					return true, nil
				}
			}
			return false, err
		}))
	}
}
