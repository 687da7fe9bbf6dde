package copies

import (
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/codepr/narwhal/fsm"
)

// Chunk is what one node tells another of one log. What it can be is in the order in
// which it comes: more of the log, the whole of it, sealed, and that the state knows.
type Chunk struct {
	_      struct{}       `cbor:",toarray"`
	Ref    fsm.AttemptRef // of the attempt
	Offset int64          // where Data belongs, in bytes
	Data   []byte
	Seal   *Seal
	Known  bool // the state names who has it sealed: copies can go
}

// Seal is a whole log, compressed.
type Seal struct {
	_      struct{} `cbor:",toarray"`
	Log    fsm.Blob // held by who sends it
	Bytes  int64    // of the log as it was written
	Packed []byte   // the blob's bytes; nil where they were sent before
}

// Answer is what the other node has of each log, in the order of the chunks.
type Answer struct {
	_     struct{} `cbor:",toarray"`
	Sizes []int64  // bytes of its copy
}

// What one message may be, in bytes.
const (
	maxData    = 256 << 10 // of a chunk's Data
	maxPacked  = 1 << 20   // of a seal that travels in a chunk
	maxBatch   = 4 << 20   // of a message's data
	maxMessage = 2 * maxBatch
	maxChunks  = 4096
)

var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, errE := cbor.EncOptions{}.EncMode()
	dec, errD := cbor.DecOptions{ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxArrayElements: 1 << 20}.DecMode()
	if err := errors.Join(errE, errD); err != nil {
		panic(err) // the options are constants
	}
	return enc, dec
}

func readMessage(r io.Reader, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err != nil {
		return fmt.Errorf("read message on logs: %w", err)
	}
	if len(data) > maxMessage {
		return fmt.Errorf("read message on logs: it has more than %d bytes", maxMessage)
	}
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read message on logs: %w", err)
	}
	return nil
}
