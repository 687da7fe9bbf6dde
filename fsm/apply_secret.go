package fsm

import (
	"fmt"
	"strings"
)

func (tx *txn) setSecret(c *SetSecret) error {
	s := c.Secret
	if s.Name == "" || len(s.Sealed) == 0 || strings.ContainsRune(s.Repo+s.Name, 0) {
		return fmt.Errorf("%w: a secret wants a name and a value", ErrInvalid)
	}
	s.At = tx.now
	tx.secrets.Insert(nameKey(s.Repo, s.Name), &s)
	tx.did(aboutSecret(DidSetSecret, s.By, s.Repo, s.Name))
	return nil
}

func (tx *txn) removeSecret(c *RemoveSecret) error {
	if _, kept := tx.secrets.Delete(nameKey(c.Repo, c.Name)); kept {
		tx.did(aboutSecret(DidRemoveSecret, c.By, c.Repo, c.Name))
	}
	return nil
}

// aboutSecret is a line of the audit log. It names the secret, and no more.
func aboutSecret(did Did, by, repo, name string) Deed {
	d := Deed{Did: did, By: by, On: name, Repo: repo}
	if host, ok := strings.CutPrefix(name, RegistrySecret("")); ok {
		d.On, d.Did = host, DidRemoveRegistry
		if did == DidSetSecret {
			d.Did = DidSetRegistry
		}
	}
	return d
}

// nameKey joins names, none of which but the last may hold a NUL byte.
func nameKey(names ...string) []byte { return []byte(strings.Join(names, "\x00")) }
