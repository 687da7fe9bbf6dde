package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
)

func testsCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "tests BUILD", Short: "Show what a build's tests did, by its JUnit reports", Args: cobra.ExactArgs(1),
		Long: "Show what a build's tests did, by the JUnit reports that its jobs name: how many passed, failed and were\nskipped, what the failures say, the slowest, and those that are flaky: that failed in one run of the\njob at the same commit, and passed in another.",
	}
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := parseBuild(args[0])
		if err != nil {
			return err
		}
		tests, err := r.client.Tests(ctx, id)
		if err != nil {
			return err
		}
		if len(tests.Jobs) == 0 && !r.json {
			r.say("build %d has no reports: its jobs name them under artifacts, reports, junit", id)
			return nil
		}
		return r.print(tests, func(w io.Writer) { showTests(w, tests) })
	}))
}

func showTests(w io.Writer, tests api.BuildTests) {
	row(w, "JOB", "NAME", "PASSED", "FAILED", "SKIPPED", "TIME")
	for _, j := range tests.Jobs {
		row(w, j.Job, j.Name, j.Report.Passed, j.Report.Failed, j.Report.Skipped, j.Report.Time.Round(time.Millisecond))
	}
	for _, j := range tests.Jobs {
		for _, c := range j.Report.Failures {
			fmt.Fprintf(w, "\nfailed\t%s\t%s\n", plain(j.Name), plain(testName(c.Suite, c.Name)))
			for line := range strings.Lines(c.Text) {
				fmt.Fprintf(w, "  %s\n", plain(strings.TrimRight(line, "\r\n")))
			}
		}
		if more := j.Report.Failed - len(j.Report.Failures); more > 0 {
			fmt.Fprintf(w, "\nfailed\t%s\t%d more\n", plain(j.Name), more)
		}
	}
	for _, j := range tests.Jobs {
		for _, c := range j.Flaky {
			fmt.Fprintf(w, "\nflaky\t%s\t%s\n", plain(j.Name), plain(testName(c.Suite, c.Name)))
		}
		for _, text := range j.Report.Broken {
			fmt.Fprintf(w, "\nunread\t%s\t%s\n", plain(j.Name), plain(text))
		}
	}
	fmt.Fprintln(w)
	row(w, "SLOWEST", "JOB", "TIME")
	for _, j := range tests.Jobs {
		for _, c := range j.Report.Slowest {
			row(w, testName(c.Suite, c.Name), j.Name, c.Time.Round(time.Millisecond))
		}
	}
}

func testName(suite, name string) string {
	if suite == "" {
		return name
	}
	return suite + " " + name
}
