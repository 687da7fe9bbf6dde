package pipeline

import (
	"time"

	"github.com/robfig/cron/v3"
)

// wallClock has a cron's times follow the clock on the wall where it is set forward or
// back, as cron does by tradition. One whose hour is fixed runs once: a time that is
// skipped comes at the first instant after the gap, and the second of a doubled one is
// none. One of every hour runs by the time that passes, which is what Next gives.
type wallClock struct {
	times *cron.SpecSchedule
	fixed bool
}

// everyHour is the hours of a cron that names none.
const everyHour = 1<<24 - 1

func newWallClock(s cron.Schedule) cron.Schedule {
	times, ok := s.(*cron.SpecSchedule)
	if !ok {
		return s
	}
	return wallClock{times: times, fixed: times.Hour&everyHour != everyHour}
}

// Next is the first time after t, in t's zone; zero where there is none.
func (w wallClock) Next(t time.Time) time.Time {
	if !w.fixed {
		return w.times.Next(t)
	}
	// A wall that knows no changes shows each time of the cron once.
	zone := t.Location()
	for wall := before(t); ; {
		wall = w.times.Next(wall)
		if wall.IsZero() {
			return wall
		}
		if at := onWall(wall, zone); at.After(t) {
			return at
		}
	}
}

// before is a time on the wall from which on what comes after t is found: what a gap
// or a repeated hour moves, it moves by less than a day.
func before(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset)*time.Second - 24*time.Hour)
}

// onWall is the first instant at which the wall in a zone shows wall or, where it is
// set forward over it, at which it shows more.
func onWall(wall time.Time, zone *time.Location) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, end := at.ZoneBounds()
	switch shown := reading(at); {
	case shown.Equal(wall) && !start.IsZero():
		// Before the zone's last change the wall may have shown it already.
		_, now := at.Zone()
		_, past := start.Add(-time.Second).Zone()
		if first := at.Add(time.Duration(now-past) * time.Second); first.Before(start) {
			return first
		}
	case shown.Before(wall): // a gap, seen from before it
		return end
	case shown.After(wall): // and from after it
		return start
	}
	return at
}

// reading is what the wall shows at an instant, as if it were UTC.
func reading(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
