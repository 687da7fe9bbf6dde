package fsm

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/codepr/narwhal/pipeline"
)

// The log's and the snapshots' encoding is CBOR (RFC 8949) in its core
// deterministic form, so that equal states have equal bytes. Decoding is strict:
// a field that this version does not know is ErrUpgrade, never dropped.

var (
	encMode = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, Time: cbor.TimeRFC3339Nano}.EncMode())
	decMode = must(cbor.DecOptions{
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements:  1 << 24,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options above are constants
	}
	return v
}

// entryVersion changes when entries change in a way that field numbers can't
// tell.
const entryVersion = 1

type entry struct {
	_        struct{} `cbor:",toarray"`
	Version  uint
	Commands []Command
}

// EncodeCommand makes the bytes that JoinEntry takes. Proposers encode each
// command once, to know its size, and join what travels together.
func EncodeCommand(c Command) ([]byte, error) {
	data, err := encMode.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return data, nil
}

// JoinEntry makes a log entry of encoded commands.
func JoinEntry(commands [][]byte) ([]byte, error) {
	raw := make([]cbor.RawMessage, len(commands))
	for i := range commands {
		raw[i] = commands[i]
	}
	data, err := encMode.Marshal(rawEntry{Version: entryVersion, Commands: raw})
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	return data, nil
}

// rawEntry is entry with its commands still encoded.
type rawEntry struct {
	_        struct{} `cbor:",toarray"`
	Version  uint
	Commands []cbor.RawMessage
}

// DecodeEntry reads what JoinEntry wrote. It returns ErrUpgrade where the
// entry comes from a newer version.
func DecodeEntry(data []byte) ([]Command, error) {
	var e entry
	if err := decMode.Unmarshal(data, &e); err != nil {
		if isUnknown(err) {
			return nil, fmt.Errorf("%w (%w)", ErrUpgrade, err)
		}
		return nil, fmt.Errorf("decode log entry: %w", err)
	}
	for i := range e.Commands {
		if r := e.Commands[i].RaiseVersion; r != nil && r.Version > StateVersion {
			return nil, fmt.Errorf("%w (state version %d, this node has %d)", ErrUpgrade, r.Version, StateVersion)
		}
		if f := e.Commands[i].FinishAttempt; f != nil {
			if err := f.Outcome.unpack(); err != nil {
				return nil, err
			}
			shareAll(f.Outcome.Plan)
		}
	}
	if e.Version != entryVersion {
		return nil, fmt.Errorf("%w (entry version %d, this node reads %d)", ErrUpgrade, e.Version, entryVersion)
	}
	return e.Commands, nil
}

func isUnknown(err error) bool {
	var unknown *cbor.UnknownFieldError
	return errors.As(err, &unknown)
}

// unpack puts a packed plan in its place. Bytes that are none leave none there, which
// Apply refuses: what one node has made up must not stop them all.
func (o *Outcome) unpack() error {
	if o.Packed == nil || o.Plan != nil {
		return nil
	}
	plan, err := pipeline.Unpack(o.Packed)
	switch {
	case isUnknown(err):
		return fmt.Errorf("%w (%w)", ErrUpgrade, err)
	case err != nil:
		return nil
	}
	o.Plan, o.Packed = plan, nil
	return nil
}
