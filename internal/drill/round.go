package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// killLeader has another node lead.
func (d *drill) killLeader(ctx context.Context, w *crew, builds []fsm.BuildID) (Round, error) {
	victim := w.hand(w.leader)
	if err := victim.client.Crash(ctx, string(victim.ID), d.LeaderDown); err != nil {
		return Round{}, err
	}
	// The steps of the process executor are its node's own processes.
	return d.failover(ctx, w, fault{victim: victim.ID, takesJobs: victim.Executor != "docker", at: time.Now()}, builds)
}

// cutLeader has the others elect while the leader lives on, alone.
func (d *drill) cutLeader(ctx context.Context, w *crew, builds []fsm.BuildID) (r Round, err error) {
	victim := w.hand(w.leader)
	f := fault{victim: victim.ID, takesJobs: true, at: time.Now()} // it is cut off until it counts as lost
	if err := d.Network.Isolate(ctx, victim.ID); err != nil {
		return Round{}, err
	}
	heal := time.AfterFunc(d.RunnerDown, func() {
		if err := d.Network.Heal(context.WithoutCancel(ctx)); err != nil {
			d.Say("%s", err)
		}
	})
	defer heal.Stop()
	r, err = d.failover(ctx, w, f, builds)
	if healed := d.Network.Heal(context.WithoutCancel(ctx)); err == nil {
		err = healed
	}
	return r, err
}

// failover measures how dispatching goes on without its leader.
func (d *drill) failover(ctx context.Context, w *crew, f fault, builds []fsm.BuildID) (Round, error) {
	r := Round{Node: w.hand(f.victim).Name, At: f.at.UTC()}
	next, elected, err := w.successor(ctx, f.victim)
	if err != nil {
		return r, err
	}
	r.Detected = elected.Sub(f.at)
	ended, err := d.collect(ctx, builds)
	if err != nil {
		return r, err
	}
	f.term = term(ended)
	for _, b := range ended {
		r.judge(b, f)
	}
	first, ok := dispatched(ended, f.term)
	if !ok {
		return r, fmt.Errorf("nothing was placed by %s, who leads after %s: the queue was empty by then", next.Name, r.Node)
	}
	r.Dispatch = first.Add(-next.ahead).Sub(f.at)
	return r, nil
}

// killRunner has the jobs of a node run elsewhere.
func (d *drill) killRunner(ctx context.Context, w *crew, builds []fsm.BuildID) (Round, error) {
	victim, err := w.busiest(ctx, d.Client)
	if err != nil {
		return Round{}, err
	}
	if err := victim.client.Crash(ctx, string(victim.ID), d.RunnerDown); err != nil {
		return Round{}, err
	}
	at := time.Now()
	r := Round{Node: victim.Name, At: at.UTC()}
	ended, err := d.collect(ctx, builds)
	if err != nil {
		return r, err
	}
	ahead := w.hand(w.leader).ahead
	f := fault{victim: victim.ID, takesJobs: true, at: at.Add(ahead)}
	for _, b := range ended {
		r.judge(b, f)
		for _, again := range reruns(b, victim.ID) {
			r.Detected = max(r.Detected, again.lost.Add(-ahead).Sub(at))
			r.Reruns = append(r.Reruns, again.started.Add(-ahead).Sub(at))
		}
	}
	if r.Reruns == nil {
		return r, fmt.Errorf("no job of %s was lost with it: it has to stay away for longer than the nodes' --lost-after", victim.Name)
	}
	return r, nil
}

// history is a build and what the log says of it.
type history struct {
	api.Build
	moments []api.Moment
}

// collect waits for the end of all builds, and reads their histories.
func (d *drill) collect(ctx context.Context, builds []fsm.BuildID) ([]history, error) {
	var all []history
	for _, id := range builds {
		b, err := ended(ctx, d.Client, id)
		if err != nil {
			return nil, err
		}
		line, err := d.Client.Timeline(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, history{b, line.Moments})
	}
	return all, nil
}
