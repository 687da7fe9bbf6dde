package api

import (
	"fmt"
	"html/template"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// ended is how a step stands of which it is known only that a later one has begun.
const ended fsm.Status = "ended"

// shapes are what statuses look like beside their words and colours, in a square of 16.
var shapes = map[fsm.Status]template.HTML{
	fsm.Passed:   `<circle cx="8" cy="8" r="7" class="f"/><path d="M4.6 8.4l2.3 2.3 4.5-5" class="o"/>`,
	fsm.Failed:   `<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" class="f"/><path d="M5.4 5.4l5.2 5.2m0-5.2l-5.2 5.2" class="o"/>`,
	fsm.Errored:  `<path d="M8 1l7.4 13.5H.6z" class="f"/><path d="M8 6v4m0 2v.6" class="o"/>`,
	fsm.Running:  `<circle cx="8" cy="8" r="6.2" class="s dim"/><path d="M8 1.8A6.2 6.2 0 0 1 14.2 8" class="s turn"/>`,
	fsm.Assigned: `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M5 8h6M8.6 5.4L11.2 8l-2.6 2.6" class="s"/>`,
	fsm.Queued:   `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M8 4.4V8l2.4 1.6" class="s"/>`,
	fsm.Blocked:  `<rect x="2" y="2" width="12" height="12" rx="2" class="s dash"/>`,
	fsm.Held:     `<rect x="2" y="2" width="12" height="12" rx="2" class="s"/><path d="M6.2 5.4v5.2m3.6-5.2v5.2" class="s"/>`,
	fsm.Canceled: `<circle cx="8" cy="8" r="6.2" class="s"/><path d="M3.8 12.2l8.4-8.4" class="s"/>`,
	fsm.Skipped:  `<path d="M3 4l5 4-5 4zM8.4 4l5 4-5 4z" class="f"/>`,
	ended:        `<circle cx="8" cy="8" r="3" class="f"/>`,
}

// mark is a status as a shape, without its word.
func mark(s fsm.Status) template.HTML {
	return `<svg class="mark" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">` + shapes[s] + `</svg>`
}

// timeMark is a time as people say it, with the exact one beside.
func timeMark(t time.Time) template.HTML {
	if t.IsZero() {
		return ""
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, //nolint:gosec // all three are ours
		t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC"), ago(time.Since(t))))
}

// ago is how long ago something was, in a word or two. A clock that is behind
// another's makes it a little less than nothing.
func ago(d time.Duration) string {
	switch {
	case d < 45*time.Second:
		return "just now"
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min ago", int((d+30*time.Second)/time.Minute))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d h ago", int((d+30*time.Minute)/time.Hour))
	default:
		return fmt.Sprintf("%d days ago", int((d+12*time.Hour)/(24*time.Hour)))
	}
}

// took is how long something ran; empty while it does.
func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	d := to.Sub(from)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
}
