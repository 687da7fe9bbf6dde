package sched

import (
	"time"
	_ "time/tzdata" // a schedule's zone must be known on every machine

	"github.com/robfig/cron/v3"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// missedAfter is how long after its time a schedule's build is still one of its
// own. Those that are older, since nobody led, make one.
const missedAfter = time.Hour

// Calendar knows when schedules come due. It is a memory of what has been worked
// out and changes no answer: a new one says the same. It is not for concurrent
// use.
type Calendar struct {
	zones  map[string]*time.Location
	lines  map[line]cron.Schedule // nil for one that can't be read
	next   map[*fsm.Schedule]time.Time
	latest map[*fsm.Schedule]time.Time // next, of the round that is going on
}

// line is what a schedule's times depend on.
type line struct{ cron, zone string }

// NewCalendar makes a calendar that remembers nothing.
func NewCalendar() *Calendar {
	return &Calendar{zones: make(map[string]*time.Location), lines: make(map[line]cron.Schedule)}
}

// Due lists what has come due by now, oldest first within each schedule, and
// when the next one does; zero where none will.
func (c *Calendar) Due(s *fsm.State, now time.Time) (fire []fsm.FireSchedule, next time.Time) {
	if s.ScheduleCount() == 0 {
		c.next = nil
		return nil, time.Time{}
	}
	c.latest = make(map[*fsm.Schedule]time.Time, s.ScheduleCount())
	for sc := range s.Schedules() {
		at := c.nextOf(sc)
		switch {
		case at.IsZero():
		case !at.After(now):
			for _, due := range c.missed(sc, at, now) {
				fire = append(fire, fsm.FireSchedule{Repo: sc.Repo, Branch: sc.Branch, Spec: sc.Spec, Due: due})
			}
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	c.next = c.latest
	return fire, next
}

// nextOf is the first time after the schedule's last. A state's schedules never
// change, so the answer is kept by which one it is.
func (c *Calendar) nextOf(sc *fsm.Schedule) time.Time {
	at, ok := c.next[sc]
	if !ok {
		at = c.after(&sc.Spec, sc.Last)
	}
	c.latest[sc] = at
	return at
}

// missed lists a schedule's times from first up to now. Of those that are older
// than missedAfter only the newest is left.
func (c *Calendar) missed(sc *fsm.Schedule, first, now time.Time) []time.Time {
	var out []time.Time
	old := now.Add(-missedAfter)
	if first.Before(old) {
		first = c.newestBefore(&sc.Spec, first, old)
	}
	for at := first; !at.IsZero() && !at.After(now); at = c.after(&sc.Spec, at) {
		out = append(out, at)
	}
	return out
}

// spanMax is before a duration runs over.
const spanMax = 200 * 365 * 24 * time.Hour

// newestBefore is the last time before end, from first on. It looks back over ever
// longer spans, so that a month of minutes is not gone through one by one.
func (c *Calendar) newestBefore(spec *pipeline.Schedule, first, end time.Time) time.Time {
	for span := time.Hour; ; span *= 2 {
		at := first
		if from := end.Add(-span); span < spanMax && from.After(first) {
			at = c.after(spec, from)
		}
		if at.IsZero() || !at.Before(end) {
			continue // first is before end: a longer span finds it
		}
		for {
			later := c.after(spec, at)
			if later.IsZero() || !later.Before(end) {
				return at
			}
			at = later
		}
	}
}

// after is the schedule's first time after t, in UTC; zero where there is none,
// or where this version can't read it.
func (c *Calendar) after(spec *pipeline.Schedule, t time.Time) time.Time {
	zone, ok := c.zones[spec.Timezone]
	if !ok {
		zone, _ = time.LoadLocation(spec.Timezone) // nil where it is unknown
		c.zones[spec.Timezone] = zone
	}
	key := line{spec.Cron, spec.Timezone}
	times, ok := c.lines[key]
	if !ok {
		times, _ = pipeline.ParseCron(spec.Cron) // nil where it makes no sense
		c.lines[key] = times
	}
	if zone == nil || times == nil {
		return time.Time{}
	}
	at := times.Next(t.In(zone))
	if at.IsZero() {
		return at
	}
	return at.UTC()
}
