package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// errNoSecret is returned when a job names a secret that nobody has set.
var errNoSecret = errors.New("not in the cluster's store")

// named are the secrets that a job's spec names, for all of its steps or for one,
// each once.
func named(spec *pipeline.Job) []string {
	names := slices.Clone(spec.Secrets)
	for i := range spec.Steps {
		names = append(names, spec.Steps[i].Secrets...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// give opens what the job may know for the executor.
func (r *Runner) give(t *executor.Task) (err error) {
	if t.Secrets, err = r.unseal(t.Work); err != nil {
		return err
	}
	t.Registries, err = r.registries(t.Work)
	return err
}

// unseal opens the secrets that the job names. A pull request from a fork is given
// none, whatever it names: its variables are not set. For all others a secret that
// is missing is the job's end, before a deployment finds itself with an empty token.
func (r *Runner) unseal(w link.Work) (map[string]string, error) {
	if w.Commit.Fork {
		return nil, nil
	}
	open := make(map[string]string)
	var missing []string
	for _, name := range named(w.Spec) {
		sealed, ok := w.Secrets[name]
		if !ok {
			missing = append(missing, name)
			continue
		}
		value, err := r.open(w.Commit.Repo, name, sealed)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		open[name] = value
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("secret %s: %w: %s", strings.Join(missing, ", "), errNoSecret, r.cfg.SecretHelp(missing[0], w.Commit.Repo))
	}
	return open, nil
}

// open tries the repository's own seal, then that of a secret for all.
func (r *Runner) open(repo, name string, sealed []byte) (string, error) {
	value, err := r.cfg.Unseal(repo, name, sealed)
	if err != nil {
		value, err = r.cfg.Unseal("", name, sealed)
	}
	return value, err
}

// registries opens the credentials for the job's images, by host.
func (r *Runner) registries(w link.Work) (map[string]executor.Credentials, error) {
	if w.Commit.Fork {
		return nil, nil
	}
	all := make(map[string]executor.Credentials, len(w.Registries))
	for host, sealed := range w.Registries {
		text, err := r.open(w.Commit.Repo, fsm.RegistrySecret(host), sealed)
		if err != nil {
			return nil, fmt.Errorf("credentials of registry %s: %w", host, err)
		}
		var c struct { // as the API seals them
			Username string `json:"username"`
			Password string `json:"password"`
		}
		if json.Unmarshal([]byte(text), &c) != nil { // whose error would show a part of it
			return nil, fmt.Errorf("credentials of registry %s: they can't be read: set them again", host)
		}
		all[host] = executor.Credentials{Username: c.Username, Password: c.Password}
	}
	return all, nil
}
