package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/codepr/narwhal/fsm"
)

// commitBody is what POST /commit takes: narwhal's own form, or that of the
// original's Commit (id, timestamp, language, repository).
type commitBody struct {
	Repo        string    `json:"repo"`      // such as "acme/api"
	CloneURL    string    `json:"clone_url"` // where git fetches it from
	Commit      string    `json:"commit"`    // the SHA
	SHA         string    `json:"sha"`       // the same, by its other name
	Ref         string    `json:"ref"`       // "refs/heads/main", or "main"
	Event       fsm.Event `json:"event"`     // by default what Ref says: push or tag
	Message     string    `json:"message"`
	Author      string    `json:"author"`
	PullRequest int       `json:"pull_request"`
	Fork        bool      `json:"fork"`
	Base        string    `json:"base"`
	Before      string    `json:"before"` // the SHA that changed files are counted from

	ID         string `json:"id"`
	Timestamp  any    `json:"timestamp"` // taken, of no use here
	Language   any    `json:"language"`  // likewise
	Repository struct {
		HostingService string `json:"hosting_service"` // "github", "gitlab" or "bitbucket"
		Name           string `json:"name"`
		Branch         string `json:"branch"`
	} `json:"repository"`
}

// hosts are the hosting services that the original knew.
var hosts = map[string]string{forgeGitHub: "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}

// readCommit reads POST /commit in a form of ours.
func readCommit(body []byte) (verdict, error) {
	b, err := decodeCommit(body)
	if err != nil {
		return verdict{}, refuse(http.StatusBadRequest, "the body could not be read: %s", line(err.Error(), 200))
	}
	return verdict{commit: b.commit()}, nil
}

func decodeCommit(body []byte) (commitBody, error) {
	var b commitBody
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return b, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return b, refuse(http.StatusBadRequest, "there is more than one JSON value")
	}
	return b, nil
}

func (b commitBody) repo() string { return either(b.Repo, b.Repository.Name) }

func (b commitBody) commit() fsm.Commit {
	c := fsm.Commit{
		Repo: b.repo(), CloneURL: b.CloneURL, SHA: strings.ToLower(either(b.Commit, either(b.SHA, b.ID))),
		Ref: either(b.Ref, b.Repository.Branch), Event: b.Event,
		Message: line(b.Message, maxMessage), Author: line(b.Author, maxAuthor),
		PullRequest: b.PullRequest, Fork: b.Fork, Base: b.Base, Before: known(strings.ToLower(b.Before)),
	}
	service := strings.ToLower(b.Repository.HostingService)
	if host, ok := hosts[service]; ok && c.CloneURL == "" {
		c.CloneURL = "https://" + host + "/" + c.Repo + ".git"
	}
	if service == forgeGitHub {
		c.Forge = forgeGitHub
	}
	if c.Ref == "" && c.PullRequest > 0 {
		c.Ref = "refs/pull/" + strconv.Itoa(c.PullRequest) + "/head"
	}
	if c.Ref != "" && !strings.HasPrefix(c.Ref, "refs/") {
		c.Ref = "refs/heads/" + c.Ref
	}
	if c.Event != "" {
		return c
	}
	switch {
	case c.PullRequest > 0:
		c.Event = fsm.EventPullRequest
	case c.Tag() != "":
		c.Event = fsm.EventTag
	default:
		c.Event = fsm.EventPush
	}
	return c
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
