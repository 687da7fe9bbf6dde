package agent

import (
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-github/v74/github"
)

const tokenPrefix = "sha256="

// authorized tells whether a request may do without a signature. GitHub sends no
// tokens, so only /commit may.
func (h *Hooks) authorized(r *http.Request) bool {
	return r.URL.Path == "/commit" && h.config.Authorize != nil && h.config.Authorize(r)
}

// verify checks body's signature with the secret for repo.
func (h *Hooks) verify(r *http.Request, body []byte, repo string) error {
	secret := h.config.secretFor(repo)
	if secret == "" {
		return refuse(http.StatusForbidden, "no webhook secret is configured for %q: give narwhal one (for all repositories or a pattern), and the forge the same", line(repo, maxRepo))
	}
	sig := signature(r)
	if sig == "" {
		return refuse(http.StatusUnauthorized, "%s", unsigned(r))
	}
	// go-github would take SHA-1 here too.
	if !strings.HasPrefix(sig, tokenPrefix) {
		return refuse(http.StatusUnauthorized, "the signature in %s is not %s…", github.SHA256SignatureHeader, tokenPrefix)
	}
	if err := github.ValidateSignature(sig, body, []byte(secret)); err != nil {
		return refuse(http.StatusForbidden, "the signature does not fit the body and the secret for %q", line(repo, maxRepo))
	}
	return nil
}

func signature(r *http.Request) string { return r.Header.Get(github.SHA256SignatureHeader) }

func unsigned(r *http.Request) string {
	if r.Header.Get(github.SHA1SignatureHeader) != "" {
		return "the webhook is signed with SHA-1 only: want " + github.SHA256SignatureHeader
	}
	return "the request is not signed: set a secret on the forge's side, so that it sends " + github.SHA256SignatureHeader
}

// payload takes the JSON out of a body of one of the types that forges send.
func payload(contentType string, body []byte) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/json":
		return body, nil
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the form could not be read: %v", err)
		}
		return []byte(form.Get("payload")), nil
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "content type %q: want application/json or application/x-www-form-urlencoded", line(kind, 80))
	}
}

// deliveryID is the forge's identity of the request, or empty where it is none
// that could be shown.
func deliveryID(r *http.Request) string {
	id := github.DeliveryID(r)
	if checkText("delivery", id, 128) != nil {
		return ""
	}
	return id
}
