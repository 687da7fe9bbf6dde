package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a node without a zone database knows every zone too

	"github.com/robfig/cron/v3"
	"gopkg.in/yaml.v3"
)

// readSchedules reads the builds that the clock starts.
func (r *reader) readSchedules(n *yaml.Node, inputs []Input) []Schedule {
	items, _ := r.items(n, "schedule")
	if len(items) > maxSchedules {
		r.errorf(items[maxSchedules], "schedule: more than %d", maxSchedules)
		return nil
	}
	var all []Schedule
	for _, item := range items {
		all = append(all, r.schedule(item, inputs))
	}
	return all
}

func (r *reader) schedule(n *yaml.Node, inputs []Input) Schedule {
	s := Schedule{Timezone: "UTC", Branch: "main"}
	all, ok := r.fields(n, "schedule", inSchedule)
	if !ok {
		return s
	}
	r.wanted(n, "a schedule", all, inSchedule)
	for _, e := range all {
		switch e.key {
		case "cron":
			if text, ok := r.line(e.value, "schedule.cron", maxNameLen); ok {
				s.Cron = text
				if _, err := ParseCron(text); err != nil {
					r.errorf(e.value, "schedule.cron: %s: %v", quote(text), err)
				}
			}
		case "timezone":
			if text, ok := r.line(e.value, "schedule.timezone", maxNameLen); ok {
				s.Timezone = text
				if _, err := time.LoadLocation(text); err != nil || text == "Local" {
					r.errorf(e.value, "schedule.timezone: %s: expected a name of the IANA database, such as UTC or Europe/Berlin", quote(text))
				}
			}
		case "branch":
			if text, ok := r.line(e.value, "schedule.branch", maxNameLen); ok {
				s.Branch = text
				if strings.ContainsAny(text, "*? ~^:[\\") {
					r.errorf(e.value, "schedule.branch: %s: expected the name of one branch", quote(text))
				}
			}
		case "inputs":
			s.Inputs = r.scheduleInputs(e.value)
		}
	}
	given(inputs, s.Inputs, true, func(_ *Input, message string) { r.errorf(n, "schedule: %s", message) })
	return s
}

func (r *reader) scheduleInputs(n *yaml.Node) map[string]string {
	all, _ := r.entries(n, "schedule.inputs")
	var values map[string]string
	for _, e := range all {
		if s, ok := r.scalar(e.value, "schedule.inputs."+short(e.key), "a value"); ok {
			if values == nil {
				values = make(map[string]string)
			}
			values[e.key] = s
		}
	}
	return values
}

// ParseCron reads the cron of a Schedule: minute, hour, day of the month, month
// and day of the week, or @hourly, @daily, @weekly, @monthly, @yearly. What it
// gives answers in the zone of the times that it is asked with; see wallClock for the
// days on which the clocks there change.
func ParseCron(text string) (cron.Schedule, error) {
	for _, word := range strings.Fields(text) {
		switch {
		case strings.Contains(word, "="):
			return nil, errors.New(`the zone belongs in "timezone"`)
		case strings.HasPrefix(word, "@every"), strings.HasPrefix(word, "@reboot"):
			return nil, errCron
		}
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	s, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCron, err)
	}
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("there is no such day")
	}
	return newWallClock(s), nil
}

var errCron = errors.New(`expected minute, hour, day of the month, month and day of the week, such as "30 3 * * 1-5", or @daily and the like`)
