// Package snapshot is the file that a cluster is saved in: what it knows, and the
// keys that make its nodes one cluster, encrypted by a passphrase. It owns the file's
// form; where the state and the keys come from, and what a restored node does with
// them, is others' business (cmd, cluster).
//
// Invariant: what Open gives is what Write was given, whole, or Open's reader fails:
// every part of the file is authenticated by the passphrase.
//
// The file is age's (https://age-encryption.org/v1, a scrypt recipient), so that the
// `age` command opens it too. Within it lie, as CBOR items, a mark, the Header, and
// then the state in chunks below zstd. Start reading at Write.
package snapshot

import (
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

const (
	mark    = "narwhal snapshot"
	version = 1
	// maxHeader bounds the header, bytes: keys and certificates are a few KiB.
	maxHeader = 1 << 20
)

// workFactor is scrypt's log2(N): a second and 256 MiB for each guess, and for us. Tests
// lower it.
var workFactor = 18

// Shortest is how long a passphrase must be, bytes. The file holds every key of the
// cluster and may lie anywhere: what can be guessed protects nothing.
const Shortest = 12

var (
	// ErrPassphrase is returned for a passphrase that doesn't open the file.
	ErrPassphrase = errors.New("the passphrase does not open it")
	// ErrNotOne is returned for a file that is no snapshot.
	ErrNotOne = errors.New("this is no snapshot of narwhal")
	// ErrDamaged is returned when the file is cut off or was changed.
	ErrDamaged = errors.New("the snapshot is cut off or damaged: use another")
	// ErrNewer is returned for what a later narwhal has written.
	ErrNewer = errors.New("a newer narwhal has written this snapshot: restore it with that one")
)

// Header says what the file holds. Keys is the cluster package's form of them.
type Header struct {
	ClusterID  string    `cbor:"1,keyasint"`
	Generation uint64    `cbor:"2,keyasint"`
	Index      uint64    `cbor:"3,keyasint"` // of the last log entry in the state
	SavedAt    time.Time `cbor:"4,keyasint"`
	SavedBy    string    `cbor:"5,keyasint"` // narwhal's version
	Keys       []byte    `cbor:"6,keyasint"`
}

type preamble struct {
	Mark    string `cbor:"1,keyasint"`
	Version uint   `cbor:"2,keyasint"`
	Header  []byte `cbor:"3,keyasint"`
}

// Write encrypts header and state into w. What it has written is a snapshot only once
// it has returned without an error.
func Write(w io.Writer, passphrase string, header Header, state io.Reader) error {
	if len(passphrase) < Shortest {
		return fmt.Errorf("write snapshot: the passphrase has %d bytes: it takes %d or more", len(passphrase), Shortest)
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	to.SetWorkFactor(workFactor)
	sealed, err := age.Encrypt(w, to)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := writeInside(sealed, header, state); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func writeInside(w io.Writer, header Header, state io.Reader) error {
	text, err := cbor.Marshal(header)
	if err != nil {
		return err
	}
	if err := cbor.NewEncoder(w).Encode(preamble{Mark: mark, Version: version, Header: text}); err != nil {
		return err
	}
	packed, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	if _, err := io.Copy(packed, state); err != nil {
		return errors.Join(err, packed.Close())
	}
	return packed.Close()
}

// Open decrypts what Write has written. The reader gives the state; it must be read to
// its end, where it fails with ErrDamaged if anything is missing, and be closed.
func Open(r io.Reader, passphrase string) (Header, io.ReadCloser, error) {
	from, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return Header{}, nil, fmt.Errorf("open snapshot: %w", err)
	}
	from.SetMaxWorkFactor(workFactor) // a forged file must not keep us busy for hours
	opened, err := age.Decrypt(r, from)
	var wrong *age.NoIdentityMatchError
	switch {
	case errors.As(err, &wrong):
		return Header{}, nil, fmt.Errorf("open snapshot: %w", ErrPassphrase)
	case err != nil:
		return Header{}, nil, fmt.Errorf("open snapshot: %w (%w)", ErrNotOne, err)
	}
	dec := cbor.NewDecoder(io.LimitReader(opened, maxHeader))
	var p preamble
	if err := dec.Decode(&p); err != nil || p.Mark != mark {
		return Header{}, nil, fmt.Errorf("open snapshot: %w", ErrNotOne)
	}
	if p.Version > version {
		return Header{}, nil, fmt.Errorf("open snapshot: %w", ErrNewer)
	}
	var h Header
	if err := cbor.Unmarshal(p.Header, &h); err != nil {
		return Header{}, nil, fmt.Errorf("open snapshot: %w: its header: %w", ErrDamaged, err)
	}
	packed, err := zstd.NewReader(io.MultiReader(dec.Buffered(), opened))
	if err != nil {
		return Header{}, nil, fmt.Errorf("open snapshot: %w", err)
	}
	return h, &body{packed}, nil
}

// body says of every failure but the end that the file is to blame.
type body struct{ packed *zstd.Decoder }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.packed.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read snapshot: %w (%w)", ErrDamaged, err)
	}
	return n, err
}

func (b *body) Close() error {
	b.packed.Close()
	return nil
}
