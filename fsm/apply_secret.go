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
	return nil
}

func (tx *txn) removeSecret(c *RemoveSecret) error {
	tx.secrets.Delete(nameKey(c.Repo, c.Name))
	return nil
}

// nameKey joins names, none of which but the last may hold a NUL byte.
func nameKey(names ...string) []byte { return []byte(strings.Join(names, "\x00")) }
