package api

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

// MaxDown is the longest that a node stays away after a crash that was asked for.
const MaxDown = 5 * time.Minute

func (s *Server) crashRoutes() {
	s.document(&huma.Operation{
		OperationID: "crash-node", Method: http.MethodPost, Path: prefix + "/nodes/{id}/crash", Tags: []string{"nodes"},
		Summary: "End a node's process, as a crash would",
		Description: "For drills. The process is killed at once, and tells nobody; what it ran in containers runs on. Whatever runs the " +
			"process has to start it again. Only a node that was started with --allow-drill takes part.",
		Parameters: []*huma.Param{
			{Name: "id", In: "path", Required: true, Description: "The node's ID or name", Schema: &huma.Schema{Type: "string"}},
			{Name: "down", In: "query", Description: "How long the node stays away, at least, however soon its process is started again; at most 5m", Schema: &huma.Schema{Type: "string", Default: "0s"}},
		},
		Responses: map[string]*huma.Response{"202": {Description: "The process ends"}},
	}, here, s.crashNode)
}

func (s *Server) crashNode(w http.ResponseWriter, r *http.Request) {
	target, p := s.memberNamed(r.PathValue("id"))
	if p != nil {
		p.write(w)
		return
	}
	if target != s.deps.Cluster.Self() {
		s.proxy(w, r, target, "")
		return
	}
	down, err := time.ParseDuration(r.URL.Query().Get("down"))
	if r.URL.Query().Get("down") == "" {
		down, err = 0, nil
	}
	switch {
	case err != nil || down < 0 || down > MaxDown:
		problem(http.StatusUnprocessableEntity, CodeInvalid, "down %q: want a time such as 20s, at most %s", r.URL.Query().Get("down"), MaxDown).write(w)
		return
	case s.deps.Crash == nil:
		problem(http.StatusForbidden, CodeForbidden, "node %s takes no part in drills: start it with --allow-drill", s.nodeName(target)).write(w)
		return
	}
	s.log.Warn("a drill ends this process", "down", down, "from", r.RemoteAddr)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	if err := http.NewResponseController(w).Flush(); err != nil {
		s.log.Warn("answer a drill", "err", err) // it asked for the end, and gets it
	}
	if err := s.deps.Crash(down); err != nil {
		s.log.Error("end this process for a drill", "err", err)
	}
}

// memberNamed finds a node by its ID or its name, among those that gossip knows: a drill
// wants one that is there, not one that the log remembers.
func (s *Server) memberNamed(text string) (fsm.NodeID, *Problem) {
	var found fsm.NodeID
	for _, m := range s.deps.Cluster.Members() {
		switch {
		case string(m.ID) == text:
			return m.ID, nil
		case m.Name == text && found != "":
			return "", problem(http.StatusConflict, CodeConflict, "two nodes are named %q: use the ID, %s or %s", text, found, m.ID)
		case m.Name == text:
			found = m.ID
		}
	}
	if found == "" {
		return "", problem(http.StatusNotFound, CodeNotFound, "there is no node %q: `narwhal nodes` lists them", text)
	}
	return found, nil
}
