package sched

import (
	"testing"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// The clock of Berlin goes from 02:00 to 03:00 on 2026-03-29, and from 03:00 back to
// 02:00 on 2026-10-25; that of Lord Howe by half an hour, and that of Cairo at
// midnight.
func TestChangesOfTheClock(t *testing.T) {
	for _, c := range []struct {
		cron, zone, from string
		want             []string // in UTC
	}{
		{"30 2 * * *", "Europe/Berlin", "2026-03-28 12:00:00", []string{"2026-03-29 01:00:00", "2026-03-30 00:30:00"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00:00", []string{"2026-10-25 00:30:00", "2026-10-26 01:30:00"}},
		{"30 2 29 3 *", "Europe/Berlin", "2026-03-01 00:00:00", []string{"2026-03-29 01:00:00", "2027-03-29 00:30:00"}},
		{"0,30 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00:00",
			[]string{"2026-03-29 01:00:00", "2026-03-29 01:30:00", "2026-03-30 00:00:00"}},
		{"*/20 2-3 * * *", "Europe/Berlin", "2026-10-24 12:00:00",
			[]string{"2026-10-25 00:00:00", "2026-10-25 00:20:00", "2026-10-25 00:40:00", "2026-10-25 02:00:00", "2026-10-25 02:20:00"}},
		{"30 * * * *", "Europe/Berlin", "2026-03-29 00:00:00", []string{"2026-03-29 00:30:00", "2026-03-29 01:30:00"}},
		{"30 * * * *", "Europe/Berlin", "2026-10-25 00:00:00",
			[]string{"2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00"}},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00:00", []string{"2026-10-03 15:30:00", "2026-10-04 15:15:00"}},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-03 20:00:00", []string{"2026-04-04 14:45:00", "2026-04-05 15:15:00"}},
		{"@daily", "Africa/Cairo", "2026-04-22 22:00:00", []string{"2026-04-23 22:00:00", "2026-04-24 21:00:00"}},
		{"30 2 * * *", "UTC", "2026-03-29 02:30:00", []string{"2026-03-30 02:30:00"}},
	} {
		calendar := NewCalendar()
		now := at(c.from)
		for _, want := range c.want {
			// From any instant on the way it is the same one.
			next := calendar.after(&pipeline.Schedule{Cron: c.cron, Timezone: c.zone}, now)
			for step := now; step.Before(next); step = step.Add(7 * time.Minute) {
				if again := calendar.after(&pipeline.Schedule{Cron: c.cron, Timezone: c.zone}, step); !again.Equal(next) {
					t.Fatalf("%s in %s: after %s comes %s, not %s", c.cron, c.zone, step, again, next)
				}
				if next.Sub(now) > 40*24*time.Hour {
					break
				}
			}
			if !next.Equal(at(want)) {
				t.Errorf("%s in %s: after %s comes %s, want %s", c.cron, c.zone, now.Format(time.DateTime), next.Format(time.DateTime), want)
			}
			now = at(want)
		}
	}
}
