package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// gitCredentials is a file with what git servers want, a line for each, such as
// https://user:token@git.example.com: the form that git's own credential store has. It is
// read again when it has changed, since tokens expire.
type gitCredentials struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	known  map[string]*url.Userinfo // by scheme://host[:port]
	size   int64
	edited time.Time
}

// openGitCredentials reads the file. Errors name its lines, and show none of them.
func openGitCredentials(path string, log *slog.Logger) (*gitCredentials, error) {
	c := &gitCredentials{path: path, log: log}
	return c, c.refresh()
}

func (c *gitCredentials) refresh() error {
	info, err := os.Stat(c.path)
	if err != nil {
		return err
	}
	if c.known != nil && info.ModTime().Equal(c.edited) && info.Size() == c.size {
		return nil
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it", c.path, mode)
	}
	data, err := os.ReadFile(c.path)
	if err != nil {
		return err
	}
	known, err := parseGitCredentials(string(data))
	if err != nil {
		return fmt.Errorf("%s, %w", c.path, err)
	}
	c.known, c.size, c.edited = known, info.Size(), info.ModTime()
	return nil
}

func parseGitCredentials(text string) (map[string]*url.Userinfo, error) {
	known := make(map[string]*url.Userinfo)
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		bad := func(why string) (map[string]*url.Userinfo, error) {
			return nil, fmt.Errorf("line %d: %s", i+1, why)
		}
		u, err := url.Parse(line)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User == nil {
			return bad("want https://user:token@host, where what is special in a URL is escaped, such as %2F for /")
		}
		if secret, ok := u.User.Password(); !ok || secret == "" || u.User.Username() == "" {
			return bad("want a user and a token, as https://user:token@host")
		}
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return bad("credentials are for a whole host: leave out what stands behind it")
		}
		origin := u.Scheme + "://" + strings.ToLower(u.Host)
		if known[origin] != nil {
			return bad("there are credentials for " + origin + " already")
		}
		known[origin] = u.User
	}
	return known, nil
}

// find gives what a URL's host wants.
func (c *gitCredentials) find(cloneURL string) (user, secret string, ok bool) {
	u, err := url.Parse(cloneURL)
	if err != nil {
		return "", "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		c.log.Warn("the credentials of git servers could not be read again: those of before are used", "error", err)
	}
	who := c.known[u.Scheme+"://"+strings.ToLower(u.Host)]
	if who == nil {
		return "", "", false
	}
	secret, _ = who.Password()
	return who.Username(), secret, true
}
