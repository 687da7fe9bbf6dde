package api

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/codepr/narwhal/fsm"
)

// Headers of our own.
const (
	HeaderIndex  = "X-Narwhal-Index"  // of the state that was answered from, or that the write made
	HeaderLeader = "X-Narwhal-Leader" // host:port of the leader's API, with a 307
	headerPassed = "X-Narwhal-Passed" // the name of the node that has passed the request on
)

// place says which node answers a request.
type place int

const (
	here      place = iota // the node that was asked
	withState              // any node that follows the log; others pass it on to the leader
	atLeader               // the leader; others pass it on
	redirect               // the leader; others answer 307, unless they forward or can't
)

// route reports whether this node is to answer a request of the kind; the request
// it returns carries the state to read. Otherwise it has answered.
func (s *Server) route(where place, w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	consistent, index, err := readOptions(r)
	if err != nil {
		err.write(w)
		return nil, false
	}
	if where == here { // whatever is asked for, it is not the state
		return s.withState(w, r, 0)
	}
	if where == withState && s.deps.Cluster.HasLog() && !consistent && (index > s.deps.State.State().Index() || s.knows(r)) {
		return s.withState(w, r, index)
	}
	leader, ok := s.awaitLeader(r.Context())
	switch {
	case !ok:
		problem(http.StatusServiceUnavailable, CodeNoLeader,
			"the cluster has no leader now (%s): try again, or see `narwhal status` on a node", s.deps.Cluster.Health().Tolerance).write(w)
		return nil, false
	case leader.ID == s.deps.Cluster.Self():
		if consistent {
			if err := s.deps.Cluster.VerifyLeader(r.Context()); err != nil {
				s.writeError(w, ErrNotLeader)
				return nil, false
			}
		}
		return s.withState(w, r, index)
	case where == redirect && s.mayRedirect(r, leader):
		s.sendToLeader(w, r, leader)
	default:
		s.proxy(w, r, leader.ID, "the leader, ")
	}
	return nil, false
}

// knows reports whether the copy here has come to the build that the path names. What
// follows the log is a moment behind: a build that is newer than all that it knows is
// looked for at the leader, before anybody hears that there is none.
func (s *Server) knows(r *http.Request) bool {
	text, _, _ := strings.Cut(r.PathValue("id"), ".")
	id, err := strconv.ParseUint(text, 10, 64)
	ofBuild := strings.HasPrefix(r.URL.Path, prefix+"/builds/") || strings.HasPrefix(r.URL.Path, prefix+"/jobs/")
	if err != nil || !ofBuild || r.Header.Get(headerPassed) != "" {
		return true
	}
	for newest := range s.deps.State.State().Builds(0) {
		return fsm.BuildID(id) <= newest.ID
	}
	return false
}

// mayRedirect reports whether the client can be sent to the leader: a session's
// cookie would stay behind, and one that another node asks for knows only that node.
func (s *Server) mayRedirect(r *http.Request, leader Leader) bool {
	return !s.config.Forward && leader.APIAddr != "" && r.Context().Value(bySession) == nil && r.Header.Get(headerPassed) == ""
}

// readOptions are what any request may ask of the state that it is answered from.
func readOptions(r *http.Request) (consistent bool, index uint64, err *Problem) {
	q := r.URL.Query()
	if text := q.Get("consistent"); text == "" {
		consistent = q.Has("consistent")
	} else {
		v, bad := strconv.ParseBool(text)
		if bad != nil {
			return false, 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "consistent: want true or false")
		}
		consistent = v
	}
	if text := q.Get("index"); text != "" {
		v, bad := strconv.ParseUint(text, 10, 64)
		if bad != nil {
			return false, 0, problem(http.StatusUnprocessableEntity, CodeInvalid, "index: want the number of an earlier answer's %s", HeaderIndex)
		}
		index = v
	}
	return consistent, index, nil
}

// withState waits until the state here holds index, and has the request carry it.
func (s *Server) withState(w http.ResponseWriter, r *http.Request, index uint64) (*http.Request, bool) {
	state := s.deps.State.State()
	if state.Index() < index {
		ctx, cancel := context.WithTimeout(r.Context(), s.config.HoldForIndex)
		defer cancel()
		var err error
		if state, err = s.deps.State.Wait(ctx, index); err != nil {
			problem(http.StatusServiceUnavailable, CodeIndexTimeout,
				"this node is at index %d and has not come to %d: try again, or ask another node", state.Index(), index).write(w)
			return nil, false
		}
	}
	w.Header().Set(HeaderIndex, strconv.FormatUint(state.Index(), 10))
	return r.WithContext(context.WithValue(r.Context(), stateRead, state)), true
}

// stateOf is the state that route chose.
func stateOf(ctx context.Context) *fsm.State {
	state, _ := ctx.Value(stateRead).(*fsm.State)
	return state
}

// awaitLeader gives the leader, after an election if there has to be one.
func (s *Server) awaitLeader(ctx context.Context) (Leader, bool) {
	leader, changed := s.deps.Cluster.Leader()
	if leader.ID != "" {
		return leader, true
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.HoldWithoutLeader)
	defer cancel()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return Leader{}, false
		}
		if leader, changed = s.deps.Cluster.Leader(); leader.ID != "" {
			return leader, true
		}
	}
}

// sendToLeader answers 307: method and body stay. Clients drop the token when the
// host is another one; narwhal's own adds it again for the host named here.
func (s *Server) sendToLeader(w http.ResponseWriter, r *http.Request, leader Leader) {
	target := url.URL{Scheme: "http", Host: leader.APIAddr, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	w.Header().Set(HeaderLeader, leader.APIAddr)
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// proxy passes a request on to another node, body and answer as they stream. The
// other node looks at its token or session again. It does so once: nodes that
// disagree about who leads would send a request around between them.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, to fsm.NodeID, who string) {
	if from := r.Header.Get(headerPassed); from != "" {
		problem(http.StatusServiceUnavailable, CodeLoop,
			"node %q passed the request on to here, but this node does not lead either: leadership is changing, try again", from).write(w)
		return
	}
	p := httputil.ReverseProxy{
		Transport:     s.deps.Transport.Node(to),
		FlushInterval: -1, // streams
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", string(to)
			pr.Out.Host = pr.In.Host // what the other node compares the origin with
			pr.Out.Header.Set(headerPassed, string(s.deps.Cluster.Self()))
		},
		ModifyResponse: func(resp *http.Response) error {
			for key := range resp.Header {
				w.Header().Del(key) // each header once: the other node has set them too
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the client has gone
			}
			s.log.Warn("pass request on", "node", to, "path", r.URL.Path, "err", err)
			problem(http.StatusServiceUnavailable, CodeNodeUnreachable, "%snode %s, does not answer: try again", who, s.nodeName(to)).write(w)
		},
	}
	p.ServeHTTP(w, r)
}

// nodeName is a node's name for people, with its ID.
func (s *Server) nodeName(id fsm.NodeID) string {
	for _, m := range s.deps.Cluster.Members() {
		if m.ID == id && m.Name != "" {
			return m.Name + " (" + string(id) + ")"
		}
	}
	return string(id)
}

// placed is huma's form of route.
func (s *Server) placed(where place) huma.Middlewares {
	return huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		if r, ok := s.route(where, w, r); ok {
			next(humago.NewContext(ctx.Operation(), r, w))
		}
	}}
}

// raw makes a plain handler of the same kind.
func (s *Server) raw(where place, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r, ok := s.route(where, w, r); ok {
			handle(w, r)
		}
	}
}

// writeWithin bounds how long a client may take to read what is written next.
const writeWithin = 30 * time.Second
