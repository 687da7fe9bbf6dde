package agent

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/codepr/narwhal/fsm"
)

// A message's version changes when it can't be read by the narwhal before. A field
// more is no such change: readers pass over what they don't know.
const (
	commitVersion = 1
	// deletionVersion has whoever only knows of commits dead-letter a deletion.
	deletionVersion = 2
)

// message is what travels through the commit queue: a commit or a deletion. Its
// MessageId is that one's key.
type message struct {
	Version  int        `json:"v"`
	Commit   fsm.Commit `json:"commit,omitzero"`
	Deleted  *Deletion  `json:"deleted,omitempty"`
	Delivery string     `json:"delivery,omitempty"` // the forge's, for the logs
}

func (m *message) key() string {
	if m.Deleted != nil {
		return m.Deleted.Key()
	}
	return m.Commit.Key()
}

func (m *message) repo() string {
	if m.Deleted != nil {
		return m.Deleted.Repo
	}
	return m.Commit.Repo
}

func (m *message) encode() ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", m.key(), err)
	}
	return body, nil
}

// check also takes away what the version doesn't know.
func (m *message) check() error {
	switch m.Version {
	case commitVersion:
		m.Deleted = nil
		return CheckCommit(m.Commit, nil)
	case deletionVersion:
		if m.Deleted == nil {
			return errNothing
		}
		m.Commit = fsm.Commit{}
		return CheckDeletion(*m.Deleted)
	default:
		return fmt.Errorf("version %d, this node reads up to %d: upgrade this node or the agent", m.Version, deletionVersion)
	}
}

var errNothing = errors.New("it is about no commit and no deletion")

// decodeMessage reads and checks a message: who may write to the broker may not
// be trusted further than a forge. The error wraps ErrBadMessage.
func decodeMessage(body []byte) (message, error) {
	var m message
	if len(body) > maxMessageBody {
		return m, fmt.Errorf("%w: %d bytes are too many", ErrBadMessage, len(body))
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	if checkText("delivery", m.Delivery, 128) != nil {
		m.Delivery = ""
	}
	return m, nil
}

const maxMessageBody = 64 << 10
