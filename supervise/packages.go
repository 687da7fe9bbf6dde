package supervise

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/codepr/narwhal/fsm"
)

// installer is a way to install packages. The names follow as arguments.
type installer struct {
	name    string
	refresh []string // run once a job before the first install; nil for none
	install []string
}

// installers in the order in which they are looked for. dnf goes before the
// others of its family, which may be names for it.
var installers = []installer{
	{name: "apk", install: []string{"add", "--no-cache"}},
	{name: "apt-get", refresh: []string{"-q", "update"}, install: []string{"-q", "install", "-y", "--no-install-recommends"}},
	{name: "dnf", install: []string{"install", "-y"}},
	{name: "microdnf", install: []string{"install", "-y"}},
	{name: "yum", install: []string{"install", "-y"}},
	{name: "zypper", install: []string{"--non-interactive", "install"}},
	{name: "pacman", install: []string{"-Sy", "--noconfirm", "--needed"}},
}

// packageName is what may be handed to an installer: never an option, a path or
// an address.
var packageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._:@~=-]*$`)

// install sees to a step's dependencies. Those that are there as commands are
// not installed again: that keeps a step fast, and running without a network, in
// an image that was made for it. Unless ok, the step ends as end says.
func (s *site) install(ctx context.Context, i int, step *Step, env []string, out *output) (used usage, end ending, ok bool) {
	for _, name := range step.Dependencies {
		if !packageName.MatchString(name) {
			return used, misconfigured("dependency %q is not the name of a package", name), false
		}
	}
	missing := missing(step.Dependencies, env)
	if len(missing) == 0 {
		return used, end, true
	}
	names := strings.Join(missing, ", ")
	if !s.task.Install {
		return used, misconfigured("%s not found on %s, where narwhal installs no packages: install them there, or run the job in a container",
			names, s.task.where()), false
	}
	for _, in := range installers {
		if path := lookPath(in.name, env); path != "" {
			end = s.installWith(ctx, i, in, path, missing, env, out)
			return end.usage, end, passed(end)
		}
	}
	return used, misconfigured("%s has nothing to install %s with: no apk, apt-get, dnf, microdnf, yum, zypper or pacman",
		s.task.where(), names), false
}

// missing are the dependencies that are no command.
func missing(names, env []string) (list []string) {
	for _, name := range names {
		if lookPath(name, env) == "" {
			list = append(list, name)
		}
	}
	return list
}

func (s *site) installWith(ctx context.Context, i int, in installer, path string, names, env []string, out *output) (end ending) {
	var refreshed bool
	select {
	case refreshed = <-s.installs:
		defer func() { s.installs <- refreshed }()
	case <-ctx.Done():
		return stopped(ctx)
	}
	s.say("installing %s with %s", strings.Join(names, ", "), in.name)
	env = overlay([]string{"DEBIAN_FRONTEND=noninteractive"}, env)
	calls := [][]string{append(append([]string{path}, in.install...), names...)}
	if in.refresh != nil && !refreshed {
		calls = append([][]string{append([]string{path}, in.refresh...)}, calls...)
	}
	var used usage
	for _, argv := range calls {
		end = s.command(ctx, i, argv, env, out)
		used.add(end.usage)
		if end.usage = used; !passed(end) {
			if end.cause == fsm.CauseFailure {
				end.message = fmt.Sprintf("%s could not install %s: %s", in.name, strings.Join(names, ", "), end.message)
			}
			return end
		}
	}
	refreshed = true
	return end
}
