package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/codepr/narwhal/agent"
)

// webhookConfig is who may send commits.
type webhookConfig struct {
	secret      string
	secretFiles []string
	hosts       []string
	forks       bool
	secrets     map[string]string
}

func (c *webhookConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.secret, "webhook-secret", "", "the `secret` that signs webhooks; better by NARWHAL_WEBHOOK_SECRET or --webhook-secret-file")
	f.StringSliceVar(&c.secretFiles, "webhook-secret-file", nil, "a `file` with the secret that signs webhooks, or `pattern=file` for the repositories that match, such as acme/*=/etc/narwhal/acme; may be given more than once")
	f.StringSliceVar(&c.hosts, "github-host", []string{"github.com"}, "the `hosts` whose repositories a GitHub webhook may name")
	f.BoolVar(&c.forks, "build-forks", false, "build pull requests from forks: whoever can open one runs what they like in a job")
}

// complete reads the secrets, and checks them and the protocols of what they let in.
func (c *webhookConfig) complete(protocols []string) error {
	c.secrets = make(map[string]string)
	for _, word := range c.secretFiles {
		pattern, file, ok := strings.Cut(word, "=")
		if !ok {
			pattern, file = "", word
		}
		secret, err := secretFile(file)
		if err != nil {
			return fmt.Errorf("--webhook-secret-file %s: %w", word, err)
		}
		if pattern == "" {
			c.secret = secret
			continue
		}
		c.secrets[pattern] = secret
	}
	if err := (agent.Config{Secret: c.secret, Secrets: c.secrets}).Validate(); err != nil {
		return fmt.Errorf("--webhook-secret or --webhook-secret-file: %w", err)
	}
	if err := (agent.Config{Protocols: protocols}).Validate(); err != nil {
		return fmt.Errorf("--allow-protocol: %w", err)
	}
	return nil
}

func (c *webhookConfig) agent(protocols []string) agent.Config {
	return agent.Config{Secret: c.secret, Secrets: c.secrets, GitHubHosts: c.hosts, Forks: c.forks, Protocols: protocols}
}
