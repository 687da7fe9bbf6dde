package api

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Config is how a node's API is set up. Zero values take the default that their
// comment names.
type Config struct {
	// URL is what people open, such as "http://host:9797". LoginURL is made of it.
	URL string
	// Forward carries writes to the leader instead of answering 307.
	Forward bool
	// Version is this binary's.
	Version string
	// BundleLimit bounds what one push brings, in bytes; default 512 MiB.
	BundleLimit int64
	// BlobLimit bounds one blob that another node hands over, in bytes; default 4 GiB.
	BlobLimit int64
	// LogsKept says how long nodes keep logs, such as ": they are kept for 30 days". It
	// is told to who asks for one that is gone. Default: nothing.
	LogsKept string
	// HoldWithoutLeader is how long a request waits for an election; default 5s.
	HoldWithoutLeader time.Duration
	// HoldForIndex is how long a read waits for the index that it asks for;
	// default 5s.
	HoldForIndex time.Duration
	// AskWithin is how long another node has to say what it holds; default 3s.
	AskWithin time.Duration
	// StreamPing is the pause between signs of life on a quiet stream; default 15s.
	StreamPing time.Duration
	// Check says what is wrong with a commit from outside: its names, sizes, and
	// the clone URL's protocol. The text is shown to the sender.
	Check func(fsm.Commit) error
	// Now is the clock of sessions, sign-in codes and deadlines; default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.BundleLimit == 0 {
		c.BundleLimit = 512 << 20
	}
	if c.BlobLimit == 0 {
		c.BlobLimit = 4 << 30
	}
	if c.HoldWithoutLeader == 0 {
		c.HoldWithoutLeader = 5 * time.Second
	}
	if c.HoldForIndex == 0 {
		c.HoldForIndex = 5 * time.Second
	}
	if c.AskWithin == 0 {
		c.AskWithin = 3 * time.Second
	}
	if c.StreamPing == 0 {
		c.StreamPing = 15 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("api config: URL %q: want one such as http://host:9797", c.URL)
	case c.Check == nil:
		return errors.New("api config: no check for commits")
	case c.BundleLimit < 0 || c.HoldWithoutLeader < 0 || c.HoldForIndex < 0 || c.AskWithin < 0 || c.StreamPing < 0:
		return errors.New("api config: a limit is negative")
	}
	return nil
}
