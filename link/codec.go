package link

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// MaxMessage bounds one message, in bytes. Whoever fills messages from a queue
// stops well before it. What a node is to run comes in one, scripts included, and a
// file of 1 MiB may be a single job.
const MaxMessage = 32 << 20

// codec carries messages as CBOR. It goes by the messages' JSON tags, so that a
// field's name is written once.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up cbor: %w", err)
	}
	// What arrives comes from a peer with a certificate of the cluster, but a
	// broken one must not take the other down: depth and counts are bounded.
	dec, err := cbor.DecOptions{
		MaxNestedLevels:  32,
		MaxArrayElements: 1 << 17,
		MaxMapPairs:      1 << 17,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up cbor: %w", err)
	}
	return codec{enc: enc, dec: dec}, nil
}

// Name is the content subtype on the wire.
func (codec) Name() string { return "cbor" }

// Marshal encodes a message.
func (c codec) Marshal(v any) ([]byte, error) { return c.enc.Marshal(v) }

// Unmarshal decodes a message.
func (c codec) Unmarshal(data []byte, v any) error { return c.dec.Unmarshal(data, v) }

// The connection's own health, below the lease: a peer that is gone without a
// word is noticed after keepaliveTime + keepaliveTimeout.
const (
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	handshakeTimeout = 5 * time.Second
)
