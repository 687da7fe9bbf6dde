package lab

import (
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// Verdict is what became of builds whose leader was killed.
type Verdict struct {
	Next    time.Duration // from the kill to the next placement; an hour where none came
	Lost    []api.Build   // did not pass
	Doubled int           // builds that one request made twice, and jobs with two results that counted
}

// Judge looks at builds, one for each request, once all of them have ended.
func Judge(builds []api.Build, killed time.Time) Verdict {
	v := Verdict{Next: time.Hour}
	seen := make(map[fsm.BuildID]bool)
	for _, b := range builds {
		if seen[b.ID] {
			v.Doubled++
		}
		seen[b.ID] = true
		if b.Status != fsm.Passed {
			v.Lost = append(v.Lost, b)
		}
		for _, j := range b.Jobs {
			passed := 0
			for _, a := range j.Attempts {
				if a.Status == fsm.Passed {
					passed++
				}
				if after := a.AssignedAt.Sub(killed); after > 0 {
					v.Next = min(v.Next, after)
				}
			}
			v.Doubled += max(0, passed-1)
		}
	}
	return v
}
