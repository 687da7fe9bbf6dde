package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/inbox"
)

const retryAfter = "5" // seconds

// answer is the body of a 2xx.
type answer struct {
	Status string      `json:"status"` // "accepted", "ignored" or "pong"
	Key    string      `json:"key,omitempty"`
	Build  fsm.BuildID `json:"build,omitempty"` // where it is known already
	Known  bool        `json:"known,omitempty"` // a redelivery: it had been built before
	Reason string      `json:"reason,omitempty"`
}

// answer answers a delivery that was handed in, or not.
func (h *Hooks) answer(w http.ResponseWriter, d *inbox.Delivery, o inbox.Outcome, err error) {
	log := h.logOf(d)
	if o.Key != "" {
		log = log.With("key", o.Key, "repo", d.Repo)
	}
	switch {
	case err != nil:
		h.answerError(w, log, err)
	case o.Status == inbox.Ignored:
		log.Info("webhook ignored", "reason", o.Reason)
		writeJSON(w, http.StatusOK, answer{Status: "ignored", Reason: o.Reason})
	default:
		log.Info("webhook accepted", "build", o.Build, "known", o.Status == inbox.Known, "reason", o.Reason)
		writeJSON(w, http.StatusAccepted, answer{
			Status: "accepted", Key: o.Key, Build: o.Build, Known: o.Status == inbox.Known, Reason: o.Reason,
		})
	}
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
