package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-github/v74/github"

	"github.com/codepr/narwhal/fsm"
)

const (
	readTimeout = 15 * time.Second // for a whole body: slower senders are cut off
	retryAfter  = "5"              // seconds
	tokenPrefix = "sha256="
)

// Hooks serves the webhooks: POST /hooks/github and POST /commit.
type Hooks struct {
	config Config
	queue  Queue
	log    *slog.Logger
	mux    *http.ServeMux
}

// NewHooks makes the handler. Every commit and deletion that it accepts goes to queue.
func NewHooks(config Config, queue Queue, log *slog.Logger) (*Hooks, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure webhooks: %w", err)
	}
	h := &Hooks{config: config.withDefaults(), queue: queue, log: log, mux: http.NewServeMux()}
	h.mux.HandleFunc("POST /hooks/github", h.serve(h.fromGitHub))
	h.mux.HandleFunc("POST /commit", h.serve(h.fromCommit))
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// verdict is what a request came to: a commit to build, a branch that is there no
// more, or why there is neither.
type verdict struct {
	commit  fsm.Commit
	deleted *Deletion
	ignored string
}

func (v *verdict) repo() string {
	if v.deleted != nil {
		return v.deleted.Repo
	}
	return v.commit.Repo
}

func (v *verdict) check(protocols []string) error {
	switch {
	case v.ignored != "":
		return nil
	case v.deleted != nil:
		return CheckDeletion(*v.deleted)
	default:
		return CheckCommit(v.commit, protocols)
	}
}

// refusal is an answer that is not 2xx.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, detail: fmt.Sprintf(format, args...)}
}

// serve wraps what tells requests of one kind apart with what they have in
// common: reading a bounded body, publishing, answering.
func (h *Hooks) serve(read func(*http.Request, []byte) (verdict, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		delivery := deliveryID(r)
		log := h.log.With("path", r.URL.Path, "event", line(github.WebHookType(r), 40), "delivery", delivery)
		v, err := h.read(w, r, read)
		if err == nil {
			err = v.check(h.config.Protocols)
		}
		switch {
		case err != nil:
			h.answerError(w, log, err)
		case v.ignored != "":
			log.Info("webhook ignored", "reason", v.ignored)
			writeJSON(w, http.StatusOK, answer{Status: "ignored", Reason: v.ignored})
		case v.deleted != nil:
			h.forget(w, r, log, *v.deleted, delivery)
		default:
			h.publish(w, r, log, v.commit, delivery)
		}
	}
}

func (h *Hooks) publish(w http.ResponseWriter, r *http.Request, log *slog.Logger, c fsm.Commit, delivery string) {
	key := c.Key()
	receipt, err := h.queue.Publish(r.Context(), c, delivery)
	if err != nil {
		h.answerError(w, log.With("key", key, "repo", c.Repo), err)
		return
	}
	log.Info("commit accepted", "key", key, "repo", c.Repo, "sha", c.SHA, "ref", c.Ref, "build", receipt.Build, "known", receipt.Known)
	writeJSON(w, http.StatusAccepted, answer{Status: "accepted", Key: key, Build: receipt.Build, Known: receipt.Known})
}

func (h *Hooks) forget(w http.ResponseWriter, r *http.Request, log *slog.Logger, d Deletion, delivery string) {
	log = log.With("key", d.Key(), "repo", d.Repo, "branch", d.Branch)
	if err := h.queue.Forget(r.Context(), d, delivery); err != nil {
		h.answerError(w, log, err)
		return
	}
	log.Info("deletion accepted")
	writeJSON(w, http.StatusAccepted, answer{Status: "accepted", Key: d.Key(), Reason: "the push deleted branch " + d.Branch})
}

func (h *Hooks) read(w http.ResponseWriter, r *http.Request, read func(*http.Request, []byte) (verdict, error)) (verdict, error) {
	// Told apart before the body is read: who has no credentials costs no memory.
	if signature(r) == "" && !h.authorized(r) {
		return verdict{}, refuse(http.StatusUnauthorized, "%s", unsigned(r))
	}
	// Writers without deadlines, such as a test's recorder, say so; that is fine.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.config.MaxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return verdict{}, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return verdict{}, refuse(http.StatusBadRequest, "the body could not be read: %v", err)
	}
	return read(r, body)
}

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
func payload(r *http.Request, body []byte) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
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

// answer is the body of a 2xx.
type answer struct {
	Status string      `json:"status"` // "accepted", "ignored" or "pong"
	Key    string      `json:"key,omitempty"`
	Build  fsm.BuildID `json:"build,omitempty"` // where it is known already
	Known  bool        `json:"known,omitempty"` // a redelivery: it had been built before
	Reason string      `json:"reason,omitempty"`
}

// problem is the body of every other answer, after RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (h *Hooks) answerError(w http.ResponseWriter, log *slog.Logger, err error) {
	status, detail := http.StatusServiceUnavailable, "the webhook was not accepted; send it again later"
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		status, detail = refused.status, refused.detail
	case errors.Is(err, ErrBadCommit):
		status, detail = http.StatusUnprocessableEntity, err.Error()
	}
	if status == http.StatusServiceUnavailable {
		// The cause may name hosts; it is for the log only.
		log.Error("webhook not accepted", "error", err)
		w.Header().Set("Retry-After", retryAfter)
	} else {
		log.Warn("webhook refused", "status", status, "error", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeJSON(w, status, problem{Title: http.StatusText(status), Status: status, Detail: detail})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var buf bytes.Buffer
	_ = json.NewEncoder(&buf).Encode(body) // plain structs: it can't fail
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the sender has gone: it will send again
}
