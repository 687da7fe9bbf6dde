package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// The concurrency groups that files use. A limit is the group's, whatever the
// file.
const (
	groupLab    = "lab"    // two jobs at a time, of any repository
	groupDeploy = "deploy" // one, and a newer build's ends the older ones'
	groupTop    = "top"    // one build at a time
)

var groupLimit = map[string]int{groupLab: 2, groupDeploy: 1, groupTop: 1}

// stuckTimeout is that of jobs which may hang, and which their node lets hang.
const stuckTimeout = 20 * time.Second

// dueHours are when every schedule comes due, a minute past; the second only comes
// where a clock is an hour ahead.
var dueHours = []int{0, 1}

const scheduleCron = "1 0,1 1 1 *"

// dress gives a job some of what a file can ask for.
func dress(rng *rand.Rand, j *pipeline.Job) {
	switch rng.IntN(8) {
	case 0:
		j.When.Manual = true
	case 1:
		j.AllowFailure, j.AllowErrors = true, true
	case 2:
		j.Retry = &pipeline.Retry{Max: 1 + rng.IntN(2), Backoff: time.Duration(rng.IntN(3)) * time.Second}
	case 3:
		j.Timeout = stuckTimeout
	case 4:
		j.Concurrency = &pipeline.Concurrency{Group: groupLab, Limit: groupLimit[groupLab]}
	case 5:
		j.Concurrency = &pipeline.Concurrency{Group: groupDeploy, Limit: groupLimit[groupDeploy], CancelInProgress: true}
	}
	if len(j.Needs) > 0 && rng.IntN(5) == 0 {
		j.When.On = []pipeline.RunOn{pipeline.OnFailure, pipeline.Always}[rng.IntN(2)]
	}
}

// dressAll gives a file what stands at its top.
func dressAll(rng *rand.Rand, p *pipeline.Pipeline) {
	if rng.IntN(6) == 0 {
		top := &pipeline.Concurrency{Group: groupTop, Limit: groupLimit[groupTop], PerBuild: true, CancelInProgress: rng.IntN(2) == 0}
		for i := range p.Jobs {
			p.Jobs[i].Concurrency = top
		}
	}
	if rng.IntN(8) == 0 {
		p.Jobs[0].Skip = "its when asks for a tag"
	}
	if rng.IntN(2) == 0 {
		p.Schedules = []pipeline.Schedule{{Cron: scheduleCron, Timezone: "UTC", Branch: "main"}}
	}
}

// hangs reports whether a job's container never ends by itself.
func (w *world) hangs(ref fsm.AttemptRef) bool {
	spec := w.check.planned(ref.Job)
	return spec.Timeout == stuckTimeout && w.chance(0.5)
}

// decideHeld is a person who looks now and then at what waits for one.
func (c *clients) decideHeld() {
	c.w.after(c.w.between(time.Second, 4*time.Second), c.decideHeld)
	for b := range c.w.check.newest.Builds(0) {
		for j := range c.w.check.newest.Jobs(b.ID) {
			if j.Status == fsm.Held && !c.asked[j.ID] {
				c.decide(j.ID, c.w.chance(0.8))
				return
			}
		}
	}
}

func (c *clients) decide(id fsm.JobID, approve bool) {
	c.asked[id] = true
	if approve {
		c.w.check.approved[id] = true // it may be taken although no answer comes
	}
	c.ask(func() fsm.Command {
		return fsm.Command{DecideJob: &fsm.DecideJob{Job: id, Approve: approve, By: "somebody"}}
	},
		func(r fsm.Result) {
			delete(c.asked, id)
			if r.Err != nil && !errors.Is(r.Err, fsm.ErrNotHeld) {
				c.w.fail("the word on %s is refused: %v", id, r.Err)
			}
			c.w.logf("%s is approved: %v, %v", id, approve, r.Err)
		})
}
