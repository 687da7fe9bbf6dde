package fsm

import (
	"iter"
	"time"
)

// Remote is a git server's repository that pushes were told of. What was pushed while
// nobody could be told is found by comparing its heads with those that it has.
type Remote struct {
	Repo     string    `json:"repo"`
	CloneURL string    `json:"clone_url"` // as the newest push told it
	Forge    string    `json:"forge,omitempty"`
	PushedAt time.Time `json:"pushed_at"` // when the newest push that was told of was
	// Looked says that all its refs are known, but for those beyond MaxRepoHeads: one that
	// is not is new.
	Looked bool `json:"looked,omitempty"`
}

// Head is what a branch or tag of a remote was seen to point at.
type Head struct {
	Repo string `json:"repo"`
	Ref  string `json:"ref"` // such as "refs/heads/main"
	SHA  string `json:"sha"` // the commit's, also for an annotated tag
}

// How many are kept. Beyond it the remotes that were not pushed to for longest go, with
// their heads.
const (
	maxRemotes = 1_000
	maxHeads   = 50_000
	// MaxRepoHeads is how many heads of one remote are kept.
	MaxRepoHeads = 5_000
)

// Remotes yields all remotes, by repository.
func (s *State) Remotes() iter.Seq[*Remote] { return values(s.remotes) }

// Remote finds the remote of a repository.
func (s *State) Remote(repo string) (*Remote, bool) { return s.remotes.Get(nameKey(repo)) }

// Heads yields what is known of a repository's refs, by their name.
func (s *State) Heads(repo string) iter.Seq[*Head] {
	return func(yield func(*Head) bool) {
		it := s.heads.Root().Iterator()
		it.SeekPrefix(nameKey(repo, ""))
		for _, h, ok := it.Next(); ok && yield(h); _, h, ok = it.Next() {
		}
	}
}
