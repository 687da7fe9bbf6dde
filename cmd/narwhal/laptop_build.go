package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

// build runs the parts until the build has ended. When ctx ends, it is canceled
// first, so that nothing of it is left.
func (l *laptop) build(ctx context.Context, inputs, secrets map[string]string) (*fsm.Build, error) {
	outer := context.WithoutCancel(ctx)
	core := newStage(outer, "core")
	core.start("log", l.proposer.Run)
	core.start("dispatcher", l.dispatcher.Lead)
	work := newStage(outer, "work")
	work.start("runner", l.workshop.Run)

	var b *fsm.Build
	var failed error
	done, end := context.WithCancel(outer)
	var group errgroup.Group
	group.Go(func() error {
		defer end()
		b, failed = l.follow(ctx, inputs, secrets)
		return nil
	})
	err := runStages(done, core, work)
	end()
	return b, errors.Join(err, group.Wait(), failed)
}

// follow starts the build and shows it to its end.
func (l *laptop) follow(ctx context.Context, inputs, secrets map[string]string) (*fsm.Build, error) {
	outer := context.WithoutCancel(ctx)
	id, err := l.start(outer, inputs, secrets)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		l.printer.say("stopping")
		if _, err := l.proposer.Propose(outer, fsm.Command{CancelBuild: &fsm.CancelBuild{Build: id, By: "you"}}); err != nil {
			l.printer.say("stop: %v", err)
		}
	})
	defer stop()
	return l.show(outer, id)
}

// start gives the build to the log, with its secrets before it.
func (l *laptop) start(ctx context.Context, inputs, secrets map[string]string) (fsm.BuildID, error) {
	commands := l.recall()
	for name, value := range secrets {
		sealed, err := l.box.Seal("", name, value)
		if err != nil {
			return 0, fmt.Errorf("secret %s: %w", name, err)
		}
		commands = append(commands, fsm.Command{SetSecret: &fsm.SetSecret{Secret: fsm.Secret{Name: name, Sealed: sealed, By: "you", At: time.Now().UTC()}}})
	}
	commands = append(commands, fsm.Command{AddBuild: &fsm.AddBuild{
		Key: "run", Inputs: inputs, Commit: fsm.Commit{
			Repo: l.made.Repo, SHA: l.made.SHA, Ref: l.made.Ref, Event: fsm.EventManual, Message: l.made.Message, Author: l.made.Author,
			Bundle: bundleHere, Holders: []fsm.NodeID{"here"},
		},
	}})
	results, err := l.proposer.ProposeAll(ctx, commands)
	if err != nil {
		return 0, err
	}
	for _, r := range results {
		if r.Err != nil {
			return 0, r.Err
		}
	}
	return results[len(results)-1].Build, nil
}

// bundleHere stands for the digest of the only bundle, which nobody asks for.
const bundleHere = "0000000000000000000000000000000000000000000000000000000000000000"

// show prints each attempt's log as it comes, and what became of the build.
func (l *laptop) show(ctx context.Context, id fsm.BuildID) (*fsm.Build, error) {
	var logs errgroup.Group
	shown := make(map[fsm.AttemptRef]bool)
	for {
		s, newer := l.replica.Watch()
		b, ok := s.Build(id)
		if !ok {
			return nil, fmt.Errorf("build %d: %w", id, fsm.ErrUnknownBuild)
		}
		for j := range s.Jobs(id) {
			for _, a := range j.Attempts {
				ref := j.Ref(a)
				if j.Kind == fsm.KindPlan || shown[ref] || a.Status == fsm.Assigned {
					continue
				}
				shown[ref] = true
				logs.Go(func() error { return l.showLog(ctx, j, a) })
			}
		}
		if b.Status.Terminal() {
			err := errors.Join(logs.Wait(), l.unpack(ctx, s, id), l.remember())
			l.printer.summary(s, b)
			return b, err
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), logs.Wait())
		}
	}
}

func (l *laptop) showLog(ctx context.Context, j *fsm.Job, a fsm.Attempt) error {
	lines, err := l.workshop.Logs().Follow(ctx, j.ID, a.N, 0)
	if err != nil {
		return fmt.Errorf("read log of job %s: %w", j.Name, err)
	}
	for line, err := range lines {
		if err != nil {
			return fmt.Errorf("read log of job %s: %w", j.Name, err)
		}
		l.printer.line(j.Name, line)
	}
	return nil
}
