package api

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"

	"github.com/codepr/narwhal/fsm"
)

//go:embed pages/*.html
var pageFiles embed.FS

// pages are the web pages, by the name of their file.
type pages map[string]*template.Template

func parsePages(a assets) (pages, error) {
	out := pages{}
	funcs := template.FuncMap{
		"short":     func(sha string) string { return sha[:min(len(sha), 10)] },
		"time":      timeMark,
		"mark":      mark,
		"asset":     a.url,
		"size":      size,
		"artifacts": artifactURL,
		"decision":  func(job fsm.JobID, attempt int, step string) decision { return decision{job, attempt, step} },
		"took":      took,
		"approval":  func(job fsm.JobID, step string) string { return fsm.Approval(job.String(), step) },
		"cores":     func(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) },
		"gib":       func(bytes int64) string { return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', 1, 64) },
	}
	for _, name := range []string{"builds", "build", "log", "nodes", "login", "problem"} {
		t, err := template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html", "pages/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("parse page %s: %w", name, err)
		}
		out[name] = t
	}
	return out, nil
}

func (s *Server) pageRoutes() {
	s.mux.HandleFunc("GET /{$}", s.raw(withState, s.buildsPage))
	s.mux.HandleFunc("GET /builds/{id}", s.raw(withState, s.buildPage))
	s.mux.HandleFunc("GET /jobs/{id}/log", s.raw(withState, s.logPage))
	s.mux.HandleFunc("GET /jobs/{id}/log/heads", s.raw(withState, s.logHeads))
	s.mux.HandleFunc("GET /nodes", s.raw(withState, s.nodesPage))
	s.mux.HandleFunc("GET /login", s.login)
	s.mux.HandleFunc("POST /login", s.loginByToken)
	s.mux.HandleFunc("POST /logout", s.logout)
	s.formRoutes()
	s.mux.Handle("GET "+assetPrefix, s.assets)
}

// show renders a page whole before it sends any of it.
func (s *Server) show(w http.ResponseWriter, status int, name, title string, data any) {
	var buf bytes.Buffer
	err := s.pages[name].Execute(&buf, struct {
		Title string
		Page  string
		Data  any
	}{title, name, data})
	if err != nil {
		s.log.Error("render page", "page", name, "err", err)
		problem(http.StatusInternalServerError, CodeInternal, "an error inside narwhal: its log has it").write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client has gone: there is nobody to tell
}

// showPart renders a part of a page, which a script puts in the place of the old one.
func (s *Server) showPart(w http.ResponseWriter, name, part string, data any) {
	var buf bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&buf, part, data); err != nil {
		s.log.Error("render part of page", "page", name, "part", part, "err", err)
		problem(http.StatusInternalServerError, CodeInternal, "an error inside narwhal: its log has it").write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(buf.Bytes()) // the client has gone: there is nobody to tell
}

func (s *Server) problemPage(w http.ResponseWriter, p *Problem) {
	s.show(w, p.Status, "problem", p.Title, p)
}

func (s *Server) signInPage(w http.ResponseWriter, status int, wrong string) {
	s.show(w, status, "login", "Sign in", wrong)
}

// login opens a session for who brings a sign-in code. It is a GET because it is
// opened from a terminal; the code is void after the first.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	code := r.URL.Query().Get("code")
	if code == "" {
		s.signInPage(w, http.StatusOK, "")
		return
	}
	if !s.deps.Auth.useCode(code) {
		s.signInPage(w, http.StatusForbidden, "This sign-in link has been used, is older than ten minutes, or is another node's.")
		return
	}
	http.SetCookie(w, s.deps.Auth.newSession(r.TLS != nil))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// loginByToken opens a session for who types the API token in.
func (s *Server) loginByToken(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.signInPage(w, http.StatusForbidden, "Another site sent this form.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if !s.deps.Auth.isToken(r.PostFormValue("token")) {
		s.signInPage(w, http.StatusForbidden, "That is not this cluster's API token.")
		return
	}
	http.SetCookie(w, s.deps.Auth.newSession(r.TLS != nil))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) nodesPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, http.StatusOK, "nodes", "Nodes", struct {
		Health Health
		Nodes  []Node
	}{s.deps.Cluster.Health(), nodeViews(stateOf(r.Context()), s.deps.Cluster.Members())})
}
