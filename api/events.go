package api

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/codepr/narwhal/fsm"
)

// followBuild tells a client how a build stands, each time that it stands
// differently. Only the newest state counts: a slow client misses steps, never the
// end.
func (s *Server) followBuild(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "build %q: want a number", r.PathValue("id")).write(w)
		return
	}
	id := fsm.BuildID(number)
	if _, ok := stateOf(r.Context()).Build(id); !ok {
		noBuild(id).write(w)
		return
	}
	out := s.newEvents(w)
	defer out.close()
	var build *fsm.Build
	var jobs []*fsm.Job
	for {
		state, changed := s.deps.State.Watch()
		b, ok := state.Build(id)
		if !ok {
			return // forgotten
		}
		now := slices.Collect(state.Jobs(id))
		if b != build || !slices.Equal(now, jobs) { // a job that changed is another pointer
			build, jobs = b, now
			name := "build"
			if b.Status.Terminal() {
				name = "end"
			}
			if out.event(name, strconv.FormatUint(state.Index(), 10), buildWithJobs(state, b)) != nil || name == "end" {
				return
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
