package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/go-github/v74/github"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

const (
	readTimeout = 15 * time.Second // for a whole body: slower senders are cut off
	// handInWithin is how long a leader or the broker is waited for: GitHub gives up
	// after ten seconds.
	handInWithin = 8 * time.Second
)

// HeaderDelivery names the delivery that a webhook was kept as, in its answer.
const HeaderDelivery = "X-Narwhal-Delivery"

// Hooks serves the webhooks: POST /hooks/github and POST /commit.
type Hooks struct {
	config Config
	queue  Queue
	record Record
	log    *slog.Logger
	mux    *http.ServeMux
}

// Record is where deliveries are kept. The zero value keeps none.
type Record struct {
	Inbox *inbox.Inbox
	// Again has a commit built though it was built before; key makes one build, however
	// often it comes.
	Again func(ctx context.Context, c fsm.Commit, key string) (Receipt, error)
}

// NewHooks makes the handler. Every commit and deletion that it accepts goes to queue.
func NewHooks(config Config, queue Queue, record Record, log *slog.Logger) (*Hooks, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure webhooks: %w", err)
	}
	h := &Hooks{config: config.withDefaults(), queue: queue, record: record, log: log, mux: http.NewServeMux()}
	h.mux.HandleFunc("POST /hooks/github", h.serve)
	h.mux.HandleFunc("POST /commit", h.serve)
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

// serve takes a webhook: it is verified, kept, handed in, and answered.
func (h *Hooks) serve(w http.ResponseWriter, r *http.Request) {
	d := inbox.Delivery{
		Path: r.URL.Path, Event: line(github.WebHookType(r), 40), ForgeID: deliveryID(r), Type: line(r.Header.Get("Content-Type"), 100),
	}
	body, err := h.admit(w, r, &d)
	if err != nil {
		h.turnAway(w, &d, err)
		return
	}
	if err := h.keep(w, &d, body); err != nil {
		h.answerError(w, h.logOf(&d), err)
		return
	}
	o, err := h.handIn(r.Context(), &d, body, "")
	h.settle(&d, o)
	h.answer(w, &d, o, err)
}

// admit reads a body, within bounds, and verifies who sent it. What it says is looked
// at only for the repository that it is about, since that has the secret.
func (h *Hooks) admit(w http.ResponseWriter, r *http.Request, d *inbox.Delivery) ([]byte, error) {
	// Told apart before the body is read: who has no credentials costs no memory.
	trusted := h.authorized(r)
	if signature(r) == "" && !trusted {
		return nil, refuse(http.StatusUnauthorized, "%s", unsigned(r))
	}
	// Writers without deadlines, such as a test's recorder, say so; that is fine.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.config.MaxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body could not be read: %v", err)
	}
	repo, err := about(d, body)
	if err != nil {
		return nil, err
	}
	d.Repo = line(repo, maxRepo)
	if trusted && !isGitHub(d) {
		return body, nil
	}
	return body, h.verify(r, body, repo)
}

// isGitHub tells a webhook of GitHub's from a commit in a form of ours. GitHub's may
// come to either path: the original's agent was sent them at /commit.
func isGitHub(d *inbox.Delivery) bool { return d.Path == "/hooks/github" || d.Event != "" }

// about is the repository that a body says it is about; empty where it says none.
func about(d *inbox.Delivery, body []byte) (string, error) {
	if !isGitHub(d) {
		b, _ := decodeCommit(body) // what is wrong with it is told to who has signed it
		return b.repo(), nil
	}
	text, err := payload(d.Type, body)
	return namedRepo(text), err
}

func (h *Hooks) read(d *inbox.Delivery, body []byte) (verdict, error) {
	if isGitHub(d) {
		return h.readGitHub(d, body)
	}
	return readCommit(body)
}

func (h *Hooks) logOf(d *inbox.Delivery) *slog.Logger {
	return h.log.With("path", d.Path, "event", d.Event, "delivery", d.ForgeID, "hook", d.ID)
}

// turnAway answers who did not show to be a forge.
func (h *Hooks) turnAway(w http.ResponseWriter, d *inbox.Delivery, why error) {
	if h.record.Inbox != nil {
		if err := h.record.Inbox.Refuse(d, line(why.Error(), maxReason)); err != nil {
			h.logOf(d).Error("a refused webhook could not be noted", "error", err)
		}
	}
	h.answerError(w, h.logOf(d), why)
}

func (h *Hooks) keep(w http.ResponseWriter, d *inbox.Delivery, body []byte) error {
	if h.record.Inbox == nil {
		return nil
	}
	if err := h.record.Inbox.Keep(d, body); err != nil {
		return err
	}
	w.Header().Set(HeaderDelivery, d.ID)
	return nil
}
