package fsm

import "time"

// Secret is a value that jobs can name. It is sealed with the cluster's key: the
// state never holds it in the clear.
type Secret struct {
	Repo   string    `json:"repo,omitempty"` // empty is for all repositories; the repository's own goes first
	Name   string    `json:"name"`           // of an environment variable, or RegistrySecret of a host
	Sealed []byte    `json:"sealed"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// RegistrySecret names the credentials of an image registry.
func RegistrySecret(host string) string { return "registry/" + host }
