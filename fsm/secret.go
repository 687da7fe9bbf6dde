package fsm

import (
	"iter"
	"time"
)

// Secret is a value that jobs can name. It is sealed with the cluster's key: the
// state never holds it in the clear.
type Secret struct {
	Repo   string    `json:"repo,omitempty"` // empty is for all repositories; the repository's own goes first
	Name   string    `json:"name"`           // of an environment variable, or RegistrySecret of a host
	Sealed []byte    `json:"sealed"`
	By     string    `json:"by"`
	At     time.Time `json:"at"` // Apply's
}

// RegistrySecret names the credentials of an image registry.
func RegistrySecret(host string) string { return "registry/" + host }

// Secret finds what a name means to a repository's jobs: its own, else the one
// for all.
func (s *State) Secret(repo, name string) (*Secret, bool) {
	if own, ok := s.secrets.Get(nameKey(repo, name)); ok {
		return own, true
	}
	return s.secrets.Get(nameKey("", name))
}

// Secrets yields all secrets: those for all repositories, then the others by
// repository and name.
func (s *State) Secrets() iter.Seq[*Secret] { return values(s.secrets) }
