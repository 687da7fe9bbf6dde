// Package secret seals what jobs must keep to themselves. It owns the cipher and the
// key, which every node derives from what the cluster gave it when it joined; where
// sealed values are kept (package fsm) and who may name them (package sched) is
// others' business.
//
// Invariant: a value that was sealed for one repository and name opens as no
// other's, so that whoever can write to the replicated state, but has no key, can't
// pass one repository's secret off as another's.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxValue is the most bytes that a value may have: with all that a job names it has
// to fit into a process's environment.
const MaxValue = 32 << 10

// ErrSealed is returned when a value doesn't open: it was sealed with another
// cluster's key, for another name, or was tampered with.
var ErrSealed = errors.New("the secret does not open with this cluster's key: set it again")

// Box seals and opens values. It may be used by many at once.
type Box struct{ aead cipher.AEAD }

// New derives the key (HKDF, RFC 5869) from what only the cluster's nodes share, at
// least 32 bytes.
func New(shared []byte) (*Box, error) {
	if len(shared) < 32 {
		return nil, fmt.Errorf("make key for secrets: %d bytes are too few", len(shared))
	}
	key, err := hkdf.Key(sha256.New, shared, nil, "narwhal secrets v1", 32)
	if err != nil {
		return nil, fmt.Errorf("make key for secrets: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make key for secrets: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make key for secrets: %w", err)
	}
	return &Box{aead}, nil
}

// Seal encrypts a value (AES-256-GCM, SP 800-38D) for a repository, empty for all,
// and a name. Its length shows.
func (b *Box) Seal(repo, name, value string) ([]byte, error) {
	if len(value) > MaxValue {
		return nil, fmt.Errorf("the value has %d bytes: the most is %d", len(value), MaxValue)
	}
	// The first byte is the form's version. NewGCMWithRandomNonce puts the nonce first.
	return append([]byte{version}, b.aead.Seal(nil, nil, []byte(value), bound(repo, name))...), nil
}

const version = 1

// Open gives the value that was sealed for this repository and name.
func (b *Box) Open(repo, name string, sealed []byte) (string, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return "", ErrSealed
	}
	value, err := b.aead.Open(nil, nil, sealed[1:], bound(repo, name))
	if err != nil {
		return "", ErrSealed
	}
	return string(value), nil
}

// bound is what the seal is tied to: the length keeps repository and name apart.
func bound(repo, name string) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(repo)))
	return append(append(data, repo...), name...)
}
