package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// Problem is the body of every answer that is not 2xx or 3xx, after RFC 9457. Code
// is for programs and never changes its meaning.
type Problem struct {
	Title  string              `json:"title"`
	Status int                 `json:"status"`
	Code   string              `json:"code" doc:"Names the problem for programs" example:"not_found"`
	Detail string              `json:"detail" doc:"What went wrong and what to do"`
	Errors []*huma.ErrorDetail `json:"errors,omitempty"`

	retryAfter string // seconds; empty where trying again is of no use
}

// The codes of problems.
const (
	CodeInvalid         = "invalid"
	CodeUnauthorized    = "unauthorized"
	CodeCrossOrigin     = "cross_origin"
	CodeForbidden       = "forbidden"
	CodeNotFound        = "not_found"
	CodeConflict        = "conflict"
	CodeTooLarge        = "too_large"
	CodeNoLeader        = "no_leader"
	CodeNotLeader       = "not_leader"
	CodeUncertain       = "uncertain"
	CodeLoop            = "loop"
	CodeNodeUnreachable = "node_unreachable"
	CodeNoCopy          = "no_copy"
	CodeBucketDown      = "bucket_down"
	CodeGone            = "gone"
	CodeIndexTimeout    = "index_timeout"
	CodeInternal        = "internal"
)

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter != "" {
		h.Set("Retry-After", p.retryAfter)
	}
	return h
}

func problem(status int, code, format string, args ...any) *Problem {
	p := &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
	if status == http.StatusServiceUnavailable {
		p.retryAfter = "1"
	}
	return p
}

func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retryAfter != "" {
		h.Set("Retry-After", p.retryAfter)
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="narwhal"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client has gone: there is nobody to tell
}

// statusCodes names the problems that huma finds by itself.
var statusCodes = map[int]string{
	http.StatusNotFound:              CodeNotFound,
	http.StatusConflict:              CodeConflict,
	http.StatusRequestEntityTooLarge: CodeTooLarge,
	http.StatusInternalServerError:   CodeInternal,
	http.StatusServiceUnavailable:    CodeNoLeader,
}

// useProblems makes huma's own errors Problems. That is a global of huma's: it is
// set once, before the first API is made.
var useProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		code, ok := statusCodes[status]
		if !ok {
			code = CodeInvalid
		}
		p := problem(status, code, "%s", message)
		if status == http.StatusInternalServerError {
			return p // what is behind it is for the log only
		}
		for _, err := range errs {
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				detail := *d.ErrorDetail()
				detail.Value = nil // what was sent may be a secret
				p.Errors = append(p.Errors, &detail)
			} else if err != nil {
				p.Errors = append(p.Errors, &huma.ErrorDetail{Message: err.Error()})
			}
		}
		return p
	}
})
