package supervise

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// site is where commands run: this machine, or the container whose first process
// this is. Several may run at a time.
type site struct {
	task    *Task
	parent  parent
	env     []string                    // of all steps
	say     func(f string, args ...any) // narwhal's own words
	started func(step, pid int)
	now     <-chan struct{} // ends every grace early; may be nil
	// installs holds one value: whether the installer's lists are fresh. Who has
	// taken it installs; two at a time would be in each other's way.
	installs chan bool
	crowd    *crowd // of all sites in the container

	mu       sync.Mutex
	sessions []int // led by processes that have ended, but left others behind
}

// contained reports whether this process is the first of a container that is the job's
// own. A narwhal that runs jobs within itself may be the first process of one, too.
func (s *site) contained() bool {
	_, within := s.parent.(direct)
	return !within && os.Getpid() == 1
}

func newInstalls() chan bool {
	c := make(chan bool, 1)
	c <- false
	return c
}

// try installs what a step needs and runs its commands, once. secrets are laid
// over its environment.
func (s *site) try(ctx context.Context, i int, step *Step, secrets []string, out *output) ending {
	ctx, cancel := bounded(ctx, step.Timeout, errStepTimeout)
	defer cancel()
	env := s.env
	if len(step.Env)+len(secrets) > 0 {
		env = overlay(s.env, step.Env, secrets)
	}
	argv := s.shell(step)
	path := s.lookShell(argv[0], env)
	if path == "" {
		return misconfigured("%s has no %s in its PATH: %s", s.task.where(), argv[0], noShell(step))
	}
	used, end, ok := s.install(ctx, i, step, env, out)
	if !ok {
		return end
	}
	script, err := script(step.Command)
	if err != nil {
		return misconfigured("%v", err)
	}
	argv[0] = path
	end = s.command(ctx, i, append(argv, script), env, out)
	end.usage.add(used)
	return end
}

// shell is what runs the step's commands, which are its last argument.
func (s *site) shell(step *Step) []string {
	switch {
	case step.Shell == pipeline.ShellBash:
		return []string{"bash", "-eo", "pipefail", "-c"}
	case s.task.Shell != "":
		return []string{s.task.Shell, "-e", "-c"}
	default:
		return []string{"sh", "-e", "-c"}
	}
}

// noShell is what there is to do where a step's shell isn't there.
func noShell(step *Step) string {
	if step.Shell == pipeline.ShellBash {
		return "use one that has, or leave out `shell: bash`"
	}
	return "a step needs a shell: use an image that has one"
}

func (s *site) lookShell(name string, env []string) string {
	if path := lookPath(name, env); path != "" {
		return path
	}
	if path := "/bin/" + name; (name == "sh" || name == "bash") && executable(path) {
		return path
	}
	return ""
}

func script(pieces []string) (string, error) {
	text := strings.Join(pieces, "\n")
	switch {
	case strings.ContainsRune(text, 0):
		return "", fmt.Errorf("its command holds a NUL byte")
	case len(text) > pipeline.MaxScript:
		return "", fmt.Errorf("its command is longer than %d KiB: put it into a file of the repository", pipeline.MaxScript>>10)
	}
	return text, nil
}

func passed(end ending) bool { return end.status == fsm.Passed }
