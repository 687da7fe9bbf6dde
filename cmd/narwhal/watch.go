package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// watch prints the logs of a build's jobs as they come, each line behind its job's
// name, until the build has ended. What it came to is for the caller to say.
func (r *remote) watch(ctx context.Context, id fsm.BuildID) (api.Build, error) {
	shared := *r
	shared.out, shared.err = &lineWriter{w: r.out}, &lineWriter{w: r.err}
	group, ctx := errgroup.WithContext(ctx)
	var last api.Build
	group.Go(func() error {
		followed, people := make(map[fsm.JobID]bool), asker{say: shared.say}
		return r.client.FollowBuild(ctx, id, func(b api.Build) error {
			last = b
			people.tell(b)
			for _, j := range b.Jobs {
				if j.Kind != fsm.KindRun || len(j.Attempts) == 0 || followed[j.ID] {
					continue
				}
				followed[j.ID] = true
				shared.say("job %s, %s, on %s", j.ID, j.Name, nodeOf(j))
				group.Go(func() error { return shared.followJob(ctx, j.ID, 0, j.Name+" | ") })
			}
			return nil
		})
	})
	err := group.Wait()
	return last, err
}

func nodeOf(j api.Job) string {
	a := j.Attempts[len(j.Attempts)-1]
	if a.NodeName != "" {
		return a.NodeName
	}
	return string(a.Node)
}

// lineWriter lets several goroutines write whole lines to one stream.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer; each call is a line.
func (l *lineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(line)
}

func writeJSONLine(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}
