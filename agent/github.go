package agent

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-github/v74/github"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

const forgeGitHub = "github"

// readGitHub reads a GitHub webhook. Which secret signs depends on the repository
// that the body names: that name was read, and the signature of the whole body verified
// with that repository's secret, before the rest is read here, which must be about the
// same repository.
func (h *Hooks) readGitHub(d *inbox.Delivery, body []byte) (verdict, error) {
	text, err := payload(d.Type, body)
	if err != nil {
		return verdict{}, err
	}
	kind, repo := d.Event, namedRepo(text)
	switch kind {
	case "push", "pull_request":
	case "":
		return verdict{}, refuse(http.StatusBadRequest, "the header %s is missing", github.EventTypeHeader)
	case "ping":
		return verdict{ignored: "ping: the webhook works"}, nil
	case "create":
		return verdict{ignored: "create: the push event tells of the new branch or tag"}, nil
	default:
		return verdict{ignored: "events of kind " + line(kind, 40) + " build nothing"}, nil
	}
	event, err := github.ParseWebHook(kind, text)
	if err != nil {
		return verdict{}, refuse(http.StatusBadRequest, "the %s event could not be read: %s", kind, line(err.Error(), 200))
	}
	var v verdict
	switch e := event.(type) {
	case *github.PushEvent:
		v = fromPush(e)
	case *github.PullRequestEvent:
		v = fromPullRequest(e)
	}
	if v.commit.Fork && !h.config.Forks {
		return verdict{ignored: "pull requests from forks build nothing without --build-forks"}, nil
	}
	if v.ignored != "" {
		return v, nil
	}
	if v.repo() != repo {
		return verdict{}, refuse(http.StatusBadRequest, "the body names more than one repository")
	}
	if v.deleted != nil { // nothing is fetched for it
		return v, nil
	}
	return v, h.checkGitHubURL(v.commit)
}

// namedRepo is the repository that a payload says it is about. A webhook of an
// organization names none in its ping: that is signed with the secret for
// "organization/".
func namedRepo(text []byte) string {
	var named struct {
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
		Organization struct {
			Login string `json:"login"`
		} `json:"organization"`
	}
	if json.Unmarshal(text, &named) != nil {
		return ""
	}
	if named.Repository.FullName == "" && named.Organization.Login != "" {
		return named.Organization.Login + "/"
	}
	return named.Repository.FullName
}

func fromPush(e *github.PushEvent) verdict {
	sha := e.GetAfter()
	if e.GetDeleted() || sha != "" && strings.Trim(sha, "0") == "" {
		if branch, ok := strings.CutPrefix(e.GetRef(), "refs/heads/"); ok {
			return verdict{deleted: &Deletion{Repo: e.GetRepo().GetFullName(), Branch: branch, Head: known(e.GetBefore())}}
		}
		return verdict{ignored: "the push deleted " + line(e.GetRef(), maxRef)}
	}
	head := e.GetHeadCommit()
	if id := head.GetID(); id != "" {
		sha = id // after is the tag object where an annotated tag was pushed
	}
	c := fsm.Commit{
		Repo: e.GetRepo().GetFullName(), CloneURL: e.GetRepo().GetCloneURL(), Forge: forgeGitHub,
		SHA: sha, Ref: e.GetRef(), Event: fsm.EventPush, Before: known(e.GetBefore()),
		Message: line(head.GetMessage(), maxMessage), Author: author(head.GetAuthor().GetLogin(), head.GetAuthor().GetName()),
	}
	switch {
	case c.Tag() != "":
		c.Event = fsm.EventTag
	case c.Branch() == "":
		return verdict{ignored: "neither a branch nor a tag was pushed, but " + line(c.Ref, maxRef)}
	}
	return verdict{commit: c}
}

// known is empty for the SHA of zeros, which stands for a branch that was not there.
func known(sha string) string {
	if strings.Trim(sha, "0") == "" {
		return ""
	}
	return sha
}

// fromPullRequest builds a pull request's head. It is fetched from the repository
// that the pull request is for, which has it under refs/pull: nobody can point
// narwhal at another host by opening one.
func fromPullRequest(e *github.PullRequestEvent) verdict {
	switch e.GetAction() {
	case "opened", "synchronize", "reopened":
	default:
		return verdict{ignored: "pull requests that are " + line(e.GetAction(), 40) + " build nothing"}
	}
	pr := e.GetPullRequest()
	number := e.GetNumber()
	if number == 0 {
		number = pr.GetNumber()
	}
	repo := e.GetRepo().GetFullName()
	return verdict{commit: fsm.Commit{
		Repo: repo, CloneURL: e.GetRepo().GetCloneURL(), Forge: forgeGitHub,
		SHA: pr.GetHead().GetSHA(), Ref: "refs/pull/" + strconv.Itoa(number) + "/head", Event: fsm.EventPullRequest,
		Message: line(pr.GetTitle(), maxMessage), Author: author(pr.GetUser().GetLogin(), pr.GetUser().GetName()),
		PullRequest: number, Base: pr.GetBase().GetRef(), Before: known(pr.GetBase().GetSHA()),
		// A head whose repository has been deleted was a fork's, too.
		Fork: !strings.EqualFold(pr.GetHead().GetRepo().GetFullName(), repo),
	}}
}

// checkGitHubURL holds the clone URL to the host and the name that the webhook is
// about, so that a webhook makes narwhal fetch from nowhere else.
func (h *Hooks) checkGitHubURL(c fsm.Commit) error {
	if err := CheckCommit(c, h.config.Protocols); err != nil {
		return err
	}
	u, err := url.Parse(c.CloneURL)
	if err != nil || !slices.Contains(h.config.GitHubHosts, u.Host) {
		return bad("clone_url", c.CloneURL, "a GitHub webhook may name only the hosts "+strings.Join(h.config.GitHubHosts, ", "))
	}
	if name := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), ".git"); !strings.EqualFold(name, c.Repo) {
		return bad("clone_url", c.CloneURL, "it is not that of "+c.Repo)
	}
	return nil
}

func author(names ...string) string {
	for _, name := range names {
		if name = line(name, maxAuthor); name != "" {
			return name
		}
	}
	return ""
}
