package fsm

import (
	"fmt"
	"iter"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// Schedule is a line of a file's schedule, as the newest commit of its branch has
// it.
type Schedule struct {
	Repo   string            `json:"repo"`
	Branch string            `json:"branch"`
	Spec   pipeline.Schedule `json:"spec"`
	Build  BuildID           `json:"build"`  // the newest that brought it
	Commit Commit            `json:"commit"` // what is built: Build's
	// Last is the newest time of the clock that was dealt with; those up to it never
	// start a build again.
	Last time.Time `json:"last"`
}

// Schedules yields all schedules, by repository and branch.
func (s *State) Schedules() iter.Seq[*Schedule] { return values(s.schedules) }

// ScheduleCount counts them.
func (s *State) ScheduleCount() int { return s.schedules.Len() }

// Overtaken reports whether a branch was pushed again after the newest push of sha to
// it: what is told of sha is old news then. Where no such push is known it is none.
// That a branch was pushed back to a commit which it had before made no build, and is
// not known: what is told of that commit counts as old.
func (s *State) Overtaken(repo, branch, sha string) bool {
	again := false
	for b := range s.Builds(0) {
		if b.Commit.Repo != repo || b.Commit.Branch() != branch || b.Commit.Event != EventPush {
			continue
		}
		if b.Commit.SHA == sha {
			return again
		}
		again = true
	}
	return false
}

// scheduleKey tells schedules apart by all that a file says of them. The spec
// comes last, since its bytes may be any.
func scheduleKey(repo, branch string, spec *pipeline.Schedule) []byte {
	return nameKey(repo, branch, string(must(encMode.Marshal(spec))))
}

// Key is the identity of the build that a time of the clock starts.
func (c *FireSchedule) Key() string {
	return fmt.Sprintf("schedule-%s", digest(string(scheduleKey(c.Repo, c.Branch, &c.Spec)), c.Due.UTC().Format(time.RFC3339)))
}
