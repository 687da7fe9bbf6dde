package inbox

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"regexp"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Status is what became of a delivery.
type Status string

// The statuses.
const (
	Waiting  Status = "waiting"  // it has not been handed in: a crash came, or no leader could be reached; its node tries again
	Accepted Status = "accepted" // it made a build, or dropped a branch's schedules
	Known    Status = "known"    // its commit had made a build before
	Ignored  Status = "ignored"  // there is nothing to build in it
	Refused  Status = "refused"  // it was not signed, or what it says is not acceptable
	Failed   Status = "failed"   // it waited for too long; it can be replayed
)

// Statuses are all of them.
func Statuses() []Status { return []Status{Waiting, Accepted, Known, Ignored, Refused, Failed} }

// Delivery is a webhook that came in.
type Delivery struct {
	ID      string    `json:"id" doc:"This node's: 16 characters, in the order of time"`
	At      time.Time `json:"at"`
	Path    string    `json:"path" doc:"What it was sent to, such as /hooks/github"`
	Event   string    `json:"event,omitempty" doc:"As the forge names it"`
	ForgeID string    `json:"forge_id,omitempty" doc:"The forge's own ID of it"`
	Type    string    `json:"content_type,omitempty"`
	Repo    string    `json:"repo,omitempty" doc:"As its body says"`
	Size    int       `json:"size" doc:"Of its body, bytes"`
	// Verified says that its signature or token was good. Only then it can be replayed.
	Verified bool `json:"verified" doc:"Its signature or token was good"`

	Outcome

	Replays    int       `json:"replays,omitempty" doc:"How often it was replayed"`
	ReplayedAt time.Time `json:"replayed_at,omitzero"`
}

// Outcome is what became of a delivery, by the last that is known.
type Outcome struct {
	Status    Status      `json:"outcome" enum:"waiting,accepted,known,ignored,refused,failed"`
	Reason    string      `json:"reason,omitempty"`
	Key       string      `json:"key,omitempty" doc:"The commit's identity"`
	Build     fsm.BuildID `json:"build,omitempty" doc:"What it made, or had made; absent where RabbitMQ has it"`
	SettledAt time.Time   `json:"settled_at,omitzero"`
}

// idText has its digits in the order of their bytes, so that IDs sort by time.
var idText = base32.HexEncoding.WithPadding(base32.NoPadding)

// IDPattern is what IDs look like.
var IDPattern = regexp.MustCompile(`^[0-9A-V]{16}$`)

// stamp gives a delivery its time and ID. IDs of one node only grow.
func (b *Inbox) stamp(d *Delivery) {
	d.At = time.Now().UTC()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(d.At.UnixMilli(), b.last+1)
	d.ID = newID(b.last)
}

// newID is the time in milliseconds, of 6 bytes, and 4 bytes by chance: nodes give them
// out without asking each other.
func newID(ms int64) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(ms))[2:]
	b = append(b, 0, 0, 0, 0)
	_, _ = rand.Read(b[6:]) // never fails: it ends the process instead
	return idText.EncodeToString(b)
}

// firstID is the smallest ID of a time.
func firstID(at time.Time) string {
	return newID(at.UnixMilli())[:9] // 45 bits: within 8 ms
}
