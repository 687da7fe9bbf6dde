package fsm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// BuildID numbers builds across the cluster, from 1, in the order of the log.
type BuildID uint64

// NodeID is the identity that a node keeps in its data directory.
type NodeID string

// JobID names a job by its build and its place in it. Seq 0 is the plan.
type JobID struct {
	_     struct{} `cbor:",toarray"`
	Build BuildID
	Seq   uint32
}

// String gives the form that people type: "42.1".
func (id JobID) String() string {
	return strconv.FormatUint(uint64(id.Build), 10) + "." + strconv.FormatUint(uint64(id.Seq), 10)
}

// MarshalText lets JSON carry the form that people type.
func (id JobID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *JobID) UnmarshalText(text []byte) error {
	parsed, err := ParseJobID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseJobID reads "42.1".
func ParseJobID(text string) (JobID, error) {
	build, seq, found := strings.Cut(text, ".")
	b, errB := strconv.ParseUint(build, 10, 64)
	s, errS := strconv.ParseUint(seq, 10, 32)
	if !found || errB != nil || errS != nil || b == 0 {
		return JobID{}, fmt.Errorf("job id %q: want BUILD.JOB, such as 42.1", text)
	}
	return JobID{Build: BuildID(b), Seq: uint32(s)}, nil
}

// key orders jobs in the indexes: by build, then by place in it.
func (id JobID) key() []byte {
	k := make([]byte, 12)
	binary.BigEndian.PutUint64(k, uint64(id.Build))
	binary.BigEndian.PutUint32(k[8:], id.Seq)
	return k
}

func (id BuildID) key() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(id))
}

// placedKey indexes the jobs that lie on a node. Node IDs hold no NUL byte:
// UpsertNode refuses one that does.
func placedKey(node NodeID, id JobID) []byte {
	return append(placedPrefix(node), id.key()...)
}

func placedPrefix(node NodeID) []byte {
	return append([]byte(node), 0)
}

// Token fences attempts off from each other: the epoch and the index of
// the log entry that placed the attempt. Tokens of one job only ever grow, also
// over a restored snapshot, so a system outside can refuse the smaller one.
type Token struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64
	Index uint64
}

// String gives the form that steps see as NARWHAL_FENCE_TOKEN: fixed width, so
// that comparing text compares tokens.
func (t Token) String() string { return fmt.Sprintf("%08d-%020d", t.Epoch, t.Index) }

// MarshalText lets JSON carry the form that steps see.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Token) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscanf(string(text), "%d-%d", &t.Epoch, &t.Index); err != nil {
		return fmt.Errorf("fence token %q: %w", text, err)
	}
	return nil
}
