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
// an image that was made for it.
func (r *run) install(ctx context.Context, step int, env []string) (ending, bool) {
	var missing []string
	for _, name := range r.task.Steps[step].Dependencies {
		if !packageName.MatchString(name) {
			return misconfigured("dependency %q is not the name of a package", name), false
		}
		if lookPath(name, env) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return ending{}, true
	}
	names := strings.Join(missing, ", ")
	if !r.task.Install {
		return misconfigured("%s not found on %s, where narwhal installs no packages: install them there, or run the job in a container",
			names, r.task.where()), false
	}
	for _, in := range installers {
		if path := lookPath(in.name, env); path != "" {
			return r.installWith(ctx, step, in, path, missing, env)
		}
	}
	return misconfigured("%s has nothing to install %s with: no apk, apt-get, dnf, microdnf, yum, zypper or pacman",
		r.task.where(), names), false
}

func (r *run) installWith(ctx context.Context, step int, in installer, path string, names, env []string) (ending, bool) {
	r.log.Printf("installing %s with %s", strings.Join(names, ", "), in.name)
	env = overlay([]string{"DEBIAN_FRONTEND=noninteractive"}, env)
	calls := [][]string{append(append([]string{path}, in.install...), names...)}
	if in.refresh != nil && !r.refreshed {
		calls = append([][]string{append([]string{path}, in.refresh...)}, calls...)
	}
	for _, argv := range calls {
		if end := r.command(ctx, step, argv, env); end.status != fsm.Passed {
			if end.cause == fsm.CauseFailure {
				end.message = fmt.Sprintf("%s could not install %s: %s", in.name, strings.Join(names, ", "), end.message)
			}
			return end, false
		}
	}
	r.refreshed = true
	return ending{}, true
}
