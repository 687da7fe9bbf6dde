package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tokenPrefix   = "nwa_"
	sessionCookie = "narwhal_session"
	sessionLife   = 7 * 24 * time.Hour
	codeLife      = 10 * time.Minute
	maxCodes      = 100
	minSecret     = 16
)

// Auth knows who may use the API: who holds the cluster's token, or a session that
// was opened with a sign-in code. All nodes are given the same secret, so each
// takes the token and the sessions of the others; codes are this node's own.
type Auth struct {
	token   string
	digest  [sha256.Size]byte // of token
	session []byte            // key that signs sessions
	now     func() time.Time

	mu    sync.Mutex
	codes map[[sha256.Size]byte]time.Time // digest of a code that has not been used, and when it expires
}

// NewAuth makes an Auth of the cluster's API secret (16 bytes or more); now is the
// clock of sessions and codes.
func NewAuth(secret []byte, now func() time.Time) (*Auth, error) {
	if len(secret) < minSecret {
		return nil, errors.New("api: the cluster's API secret is too short")
	}
	token := tokenPrefix + base64.RawURLEncoding.EncodeToString(derive(secret, "api-token v1"))
	return &Auth{
		token: token, digest: sha256.Sum256([]byte(token)), session: derive(secret, "api-session v1"), now: now,
		codes: make(map[[sha256.Size]byte]time.Time),
	}, nil
}

func derive(secret []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// Token is the cluster's API token. It is a secret.
func (a *Auth) Token() string { return a.token }

// Authorized reports whether a request carries the API token. Sessions don't
// count: a browser sends them unasked.
func (a *Auth) Authorized(r *http.Request) bool {
	given, ok := bearer(r)
	return ok && a.isToken(given)
}

func (a *Auth) isToken(given string) bool {
	digest := sha256.Sum256([]byte(given)) // equal lengths, so that the comparison tells nothing
	return subtle.ConstantTimeCompare(digest[:], a.digest[:]) == 1
}

func bearer(r *http.Request) (string, bool) {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(given), ok && strings.EqualFold(scheme, "Bearer")
}

// signedIn reports whether a request carries a session that has not expired.
func (a *Auth) signedIn(r *http.Request) bool {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	payload, given, ok := strings.Cut(cookie.Value, ".")
	signature, err := base64.RawURLEncoding.DecodeString(given)
	if !ok || err != nil || !hmac.Equal(signature, derive(a.session, payload)) {
		return false
	}
	expires, _, _ := strings.Cut(payload, "-")
	unix, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && a.now().Before(time.Unix(unix, 0))
}

// newSession makes a session's cookie. It holds when it expires, a random part,
// and the signature of both.
func (a *Auth) newSession(secure bool) *http.Cookie {
	payload := strconv.FormatInt(a.now().Add(sessionLife).Unix(), 10) + "-" + randomText(12)
	return &http.Cookie{
		Name: sessionCookie, Value: payload + "." + base64.RawURLEncoding.EncodeToString(derive(a.session, payload)),
		Path: "/", MaxAge: int(sessionLife / time.Second), HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
}

// newCode makes a sign-in code that is good for one use within ten minutes. Of too
// many the oldest is dropped.
func (a *Auth) newCode() string {
	code := randomText(24)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropCodes()
	a.codes[sha256.Sum256([]byte(code))] = a.now().Add(codeLife)
	return code
}

func (a *Auth) dropCodes() {
	var oldest [sha256.Size]byte
	var first time.Time
	for digest, expires := range a.codes {
		if !a.now().Before(expires) {
			delete(a.codes, digest)
		} else if first.IsZero() || expires.Before(first) {
			oldest, first = digest, expires
		}
	}
	if len(a.codes) >= maxCodes {
		delete(a.codes, oldest)
	}
}

// useCode reports whether the code is good, and makes it void.
func (a *Auth) useCode(code string) bool {
	digest := sha256.Sum256([]byte(code))
	a.mu.Lock()
	defer a.mu.Unlock()
	expires, ok := a.codes[digest]
	delete(a.codes, digest)
	return ok && a.now().Before(expires)
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}
