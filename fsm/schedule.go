package fsm

import (
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
