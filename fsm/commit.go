package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// Event names what brought a commit here.
type Event string

// The events.
const (
	EventPush        Event = "push"
	EventTag         Event = "tag"
	EventPullRequest Event = "pull_request"
	EventManual      Event = "manual"   // API or `narwhal push`
	EventSchedule    Event = "schedule" // the clock
)

// Commit is what arrived: a repository at a SHA, and the event that told of it.
type Commit struct {
	Repo     string `json:"repo"`      // the repository's name, such as "acme/api"
	CloneURL string `json:"clone_url"` // where git fetches it from
	SHA      string `json:"sha"`       // 40 or 64 hexadecimal digits
	Ref      string `json:"ref"`       // such as "refs/heads/main"
	Event    Event  `json:"event"`
	Message  string `json:"message,omitempty"` // its first line
	Author   string `json:"author,omitempty"`
	Forge    string `json:"forge,omitempty"` // such as "github"; empty where no forge is told of the result

	PullRequest int    `json:"pull_request,omitempty"` // its number, 0 where there is none
	Fork        bool   `json:"fork,omitempty"`         // the commit comes from another repository than Repo
	Base        string `json:"base,omitempty"`         // the branch that a pull request is for
	Before      string `json:"before,omitempty"`       // the SHA that what changed is counted from; empty where it is not known

	// Bundle and Holders are set for what `narwhal push` brought: the SHA-256 of
	// a git bundle, and the nodes that hold it. CloneURL is empty then.
	Bundle  string   `json:"bundle,omitempty"`
	Holders []NodeID `json:"holders,omitempty"`
}

// Branch is the branch that was pushed, or empty.
func (c Commit) Branch() string { return cutRef(c.Ref, "refs/heads/") }

// Tag is the tag that was pushed, or empty.
func (c Commit) Tag() string { return cutRef(c.Ref, "refs/tags/") }

// Untold reports whether nobody has said what a push's commit says of itself: it was
// found by a look at its remote, or told of by a script.
func (c Commit) Untold() bool {
	return (c.Event == EventPush || c.Event == EventTag) && c.Message == "" && c.Author == ""
}

func cutRef(ref, prefix string) string {
	if name, ok := strings.CutPrefix(ref, prefix); ok {
		return name
	}
	return ""
}

// Key is the commit's identity: a redelivery has the same one, so it is built
// once.
func (c Commit) Key() string {
	return digest(c.Repo, c.SHA, string(c.Event), c.Ref)
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Build is a commit's run.
type Build struct {
	ID      BuildID `json:"id"`
	Key     string  `json:"key"` // what made it; one build a key
	Commit  Commit  `json:"commit"`
	Status  Status  `json:"status"`
	Cause   Cause   `json:"cause,omitempty"`
	Message string  `json:"message,omitempty"` // why it did not pass, in words
	Jobs    uint32  `json:"jobs"`              // how many jobs it has, its plan included
	Open    uint32  `json:"open"`              // how many of them have not ended
	RetryOf BuildID `json:"retry_of,omitempty"`
	// Inputs are what it was started with by hand, or by a schedule.
	Inputs map[string]string `json:"inputs,omitempty"`

	CanceledBy string `json:"canceled_by,omitempty"`
	// ReplacedBy is set where that was a newer build of its concurrency group.
	ReplacedBy BuildID `json:"replaced_by,omitempty"`
	// Unscheduled says that its plan brings no schedules: its branch was deleted since,
	// or the clock was told to leave it alone.
	Unscheduled bool `json:"unscheduled,omitempty"`
	// Entered are the concurrency groups of which it has taken a place as a whole.
	Entered []string `json:"entered,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"` // its plan was placed
	EndedAt   time.Time `json:"ended_at,omitzero"`
}
