package chaos

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// judge holds what is left of a load to the promises.
type judge struct {
	config Config
	load   *load
	report *Report
	client *client.Client
	ran    map[string]int // how often each attempt of a job has run its step
}

func newJudge(config Config, load *load, report *Report) *judge {
	return &judge{config: config, load: load, report: report}
}

func (j *judge) all(ctx context.Context) (err error) {
	if j.client, err = j.config.Lab.Client(); err != nil {
		return err
	}
	if j.ran, err = j.config.readLedger(); err != nil {
		return err
	}
	r := j.report
	for _, n := range unlinear(j.load.history) {
		r.finding(&r.Unlinear, "build %d: what clients saw of it can't be put in order: %s", j.load.orders[n].build, story(j.load.history, n))
	}
	seen := make(map[fsm.BuildID]bool)
	for _, o := range j.load.orders {
		if seen[o.build] {
			r.finding(&r.Doubled, "build %d was made for two requests", o.build)
		}
		seen[o.build] = true
		b, err := j.client.Build(ctx, o.build)
		if err != nil {
			return fmt.Errorf("build %d: %w", o.build, err)
		}
		if err := j.build(ctx, o, b); err != nil {
			return err
		}
	}
	if err := j.unasked(ctx, seen); err != nil {
		return err
	}
	if r.Diverged, err = j.config.Lab.Diverged(ctx); err != nil {
		return err
	}
	for _, n := range j.config.Lab.Nodes {
		for _, end := range n.Ends() {
			r.finding(&r.Crashed, "%s", end)
		}
	}
	return j.leftovers(ctx)
}

// build judges one.
func (j *judge) build(ctx context.Context, o *order, b api.Build) error {
	r := j.report
	r.Builds++
	switch {
	case b.Status == fsm.Passed:
	case b.Status == fsm.Canceled && o.canceled:
		r.Canceled++
	case b.Status == fsm.Errored && givenUp(b):
		r.GivenUp++
	default:
		r.finding(&r.Lost, "build %d %s (%s): %s", b.ID, b.Status, b.Cause, b.Reason)
	}
	for _, work := range b.Jobs {
		if work.Kind != fsm.KindRun {
			continue
		}
		if err := j.job(ctx, o, work); err != nil {
			return err
		}
	}
	return nil
}

// givenUp reports whether a build ended for the loss of nodes, as it has to.
func givenUp(b api.Build) bool {
	for _, work := range b.Jobs {
		if work.Cause == fsm.CauseNodeLost {
			return true
		}
	}
	return false
}

func (j *judge) job(ctx context.Context, o *order, work api.Job) error {
	r := j.report
	passed, began := 0, 0
	for _, a := range work.Attempts {
		ran := j.ran[fmt.Sprintf("%s %d", work.ID, a.N)]
		began += min(ran, 1)
		if ran > 1 {
			r.finding(&r.Doubled, "attempt %d of job %s ran its step %d times", a.N, work.ID, ran)
		}
		if a.Status != fsm.Passed {
			continue
		}
		passed++
		if ran == 0 {
			r.finding(&r.Lost, "attempt %d of job %s passed, and never ran", a.N, work.ID)
		}
		if err := j.log(ctx, work.ID, a.N); err != nil {
			return err
		}
	}
	lost := 0
	for _, a := range work.Attempts {
		if a.Cause == fsm.CauseNodeLost {
			lost++
		}
	}
	switch {
	case passed > 1:
		r.finding(&r.Doubled, "job %s passed %d times", work.ID, passed)
	case exclusive(o) && began > 1:
		r.finding(&r.Doubled, "job %s may not run twice, and %d of its attempts did", work.ID, began)
	case work.Cause == fsm.CauseNodeLost && lost < 2 && !exclusive(o):
		r.finding(&r.Lost, "job %s was given up after the loss of %d nodes", work.ID, lost)
	case passed == 0 && work.Status == fsm.Passed:
		r.finding(&r.Lost, "job %s passed, and none of its attempts", work.ID)
	}
	return nil
}

// exclusive reports whether the jobs of a build say on_node_loss: fail.
func exclusive(o *order) bool { return strings.HasPrefix(kinds[o.kind], "on_node_loss: fail") }

// log holds the log of an attempt that passed to what its step has printed.
func (j *judge) log(ctx context.Context, job fsm.JobID, attempt int) error {
	var want, got bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if err := j.client.ReadLog(ctx, job, attempt, &got); err != nil {
		j.report.finding(&j.report.Broken, "the log of attempt %d of job %s: %s", attempt, job, err)
		return ctx.Err()
	}
	if !strings.Contains(got.String(), want.String()) || strings.Count(got.String(), "line ") != lines {
		j.report.finding(&j.report.Broken, "the log of attempt %d of job %s is %q", attempt, job, got.String())
	}
	return nil
}

// unasked looks for builds that nobody asked for.
func (j *judge) unasked(ctx context.Context, asked map[fsm.BuildID]bool) error {
	filter := client.Filter{Repo: repoName, Limit: 200}
	for {
		page, err := j.client.Builds(ctx, filter)
		if err != nil {
			return err
		}
		for _, b := range page.Builds {
			if !asked[b.ID] {
				j.report.finding(&j.report.Doubled, "nobody asked for build %d", b.ID)
			}
		}
		if page.Next == 0 {
			return nil
		}
		filter.Before = page.Next
	}
}

// leftovers waits until nothing is left of attempts, all of which are over.
func (j *judge) leftovers(ctx context.Context) error {
	var left []string
	waiting, cancel := context.WithTimeout(ctx, leftover)
	defer cancel()
	err := lab.Await(waiting, "nothing to be left", func(context.Context) (bool, error) {
		var err error
		left, err = j.config.Lab.Leftovers()
		return err == nil && len(left) == 0, err
	})
	if len(left) == 0 {
		return err
	}
	for _, what := range left {
		j.report.finding(&j.report.Leftovers, "left: %s", what)
	}
	return nil
}
