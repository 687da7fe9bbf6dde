package agent

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

const (
	defaultMaxBody = 5 << 20
	minSecret      = 8
)

// Config is who may send commits, and which.
type Config struct {
	// Secret signs webhooks of the repositories that no pattern of Secrets names.
	// Empty: those are refused.
	Secret string
	// Secrets has a secret by pattern of path.Match over the repository's name,
	// such as "acme/*". The longest pattern that matches counts.
	Secrets map[string]string
	// Authorize reports whether a request carries a token of the API; such a
	// request to /commit needs no signature. Nil: there are no tokens.
	Authorize func(*http.Request) bool
	// GitHubHosts are the hosts whose clone URLs a GitHub webhook may name.
	// Default: github.com. GitHub Enterprise's host comes here.
	GitHubHosts []string
	// Forks has pull requests from forks built. Whoever can open one then runs what
	// they like in a job.
	Forks bool
	// Protocols are the schemes that a clone URL may have. Default: https, ssh.
	Protocols []string
	// MaxBody is the largest body taken, in bytes. Default: 5 MiB.
	MaxBody int64
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Secret != "" && len(c.Secret) < minSecret {
		errs = append(errs, fmt.Errorf("webhook secret: want %d characters or more", minSecret))
	}
	for pattern, secret := range c.Secrets {
		if _, err := path.Match(pattern, ""); err != nil {
			errs = append(errs, fmt.Errorf("webhook secret for %q: %w", pattern, err))
		}
		if len(secret) < minSecret {
			errs = append(errs, fmt.Errorf("webhook secret for %q: want %d characters or more", pattern, minSecret))
		}
	}
	for _, p := range c.Protocols {
		if !slices.Contains(knownProtocols, p) {
			errs = append(errs, fmt.Errorf("clone protocol %q: want one of %s", p, strings.Join(knownProtocols, ", ")))
		}
	}
	if c.MaxBody < 0 {
		errs = append(errs, errors.New("largest webhook body: want a positive number of bytes"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if len(c.GitHubHosts) == 0 {
		c.GitHubHosts = []string{"github.com"}
	}
	if len(c.Protocols) == 0 {
		c.Protocols = []string{"https", "ssh"}
	}
	if c.MaxBody == 0 {
		c.MaxBody = defaultMaxBody
	}
	return c
}

// secretFor finds the secret that signs for repo; it is empty where there is
// none. Forges don't tell upper from lower case in names, so neither does it.
func (c Config) secretFor(repo string) string {
	repo = strings.ToLower(repo)
	best, secret := "", c.Secret
	for pattern, s := range c.Secrets {
		if ok, err := path.Match(strings.ToLower(pattern), repo); err != nil || !ok {
			continue
		}
		if len(pattern) > len(best) || len(pattern) == len(best) && pattern < best {
			best, secret = pattern, s
		}
	}
	return secret
}
