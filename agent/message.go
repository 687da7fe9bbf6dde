package agent

import (
	"encoding/json"
	"fmt"

	"github.com/codepr/narwhal/fsm"
)

// messageVersion changes when a message of the commit queue can't be read by the
// version before. A field more is no such change: readers pass over what they
// don't know.
const messageVersion = 1

// message is what travels through the commit queue. Its MessageId is the commit's
// key.
type message struct {
	Version  int        `json:"v"`
	Commit   fsm.Commit `json:"commit"`
	Delivery string     `json:"delivery,omitempty"` // the forge's, for the logs
}

func encodeMessage(c fsm.Commit, delivery string) ([]byte, error) {
	body, err := json.Marshal(message{Version: messageVersion, Commit: c, Delivery: delivery})
	if err != nil {
		return nil, fmt.Errorf("encode commit %s: %w", c.Key(), err)
	}
	return body, nil
}

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
	if m.Version != messageVersion {
		return m, fmt.Errorf("%w: version %d, this node reads %d: upgrade this node or the agent", ErrBadMessage, m.Version, messageVersion)
	}
	if err := CheckCommit(m.Commit, nil); err != nil {
		return m, fmt.Errorf("%w: %w", ErrBadMessage, err)
	}
	if checkText("delivery", m.Delivery, 128) != nil {
		m.Delivery = ""
	}
	return m, nil
}

const maxMessageBody = 64 << 10
