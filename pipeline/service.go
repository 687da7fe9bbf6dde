package pipeline

import (
	"maps"
	"strings"

	"gopkg.in/yaml.v3"
)

// services reads the containers beside a job.
func (r *reader) services(n *yaml.Node) []Service {
	items, _ := r.items(n, "services")
	if len(items) > maxServices {
		r.errorf(items[maxServices], "services: more than %d", maxServices)
		return nil
	}
	var all []Service
	names := make(map[string]bool)
	for _, item := range items {
		s, at := r.service(item)
		if s.Name != "" && names[s.Name] {
			r.errorf(at, "services: name %s is there twice", quote(s.Name))
		}
		names[s.Name] = true
		all = append(all, s)
	}
	return all
}

func (r *reader) service(n *yaml.Node) (s Service, at *yaml.Node) {
	all, ok := r.fields(n, "service", inService)
	if !ok {
		return s, n
	}
	r.wanted(n, "a service", all, inService)
	at = n
	// A service sees its own env alone, and can be made of the job's.
	vs := r.variables(all)
	own := r.scope.under(vs)
	if len(vs) > 0 {
		s.Env = make(map[string]string)
		r.resolveLayer(own, own.env, s.Env)
	}
	r.in(own, func() {
		for _, e := range all {
			switch e.key {
			case "name":
				at = e.value
				if name, ok := r.line(e.value, "services.name", maxNameLen); ok && !isHost(name) {
					r.errorf(e.value, "services: name %s: use a host name of lower-case letters, digits and -", quote(name))
				} else {
					s.Name = name
				}
			case "image":
				s.Image, _ = r.image(e.value)
			case "command":
				s.Command = r.arguments(&s, e, "services.command")
			case "ready":
				s.Ready = r.ready(&s, e.value)
			}
		}
	})
	return s, at
}

// arguments reads a command of a service: a list is taken as it is, a string is
// one for its shell. What is given to a shell is treated as in a step: the values
// that it names come as variables.
func (r *reader) arguments(s *Service, e entry, what string) []string {
	if e.value.Kind == yaml.SequenceNode {
		items, _ := r.items(e.value, what)
		if len(items) == 0 {
			r.errorf(e.value, "%s: is empty", what)
		}
		var all []string
		for _, item := range items {
			if arg, ok := r.scalar(item, what, "a string"); ok {
				all = append(all, arg)
			}
		}
		return all
	}
	line, ok := r.shellText(e.value, what, "a string or a list of strings")
	if !ok {
		return nil
	}
	r.scriptFits(e.value, what, len(line))
	if strings.Contains(line, "${"+matrixPrefix) || strings.Contains(line, "${"+inputPrefix) {
		given := make(map[string]string)
		for name, v := range r.scope.matrix {
			given[variableOf(matrixPrefix, name)] = v
		}
		for name, v := range r.scope.inputs {
			r.budget -= len(v)
			given[variableOf(inputPrefix, name)] = v
		}
		maps.Copy(given, s.Env)
		s.Env = given
	}
	return []string{"sh", "-c", line}
}

func (r *reader) ready(s *Service, n *yaml.Node) *Ready {
	to := &Ready{Timeout: defaultReady}
	all, ok := r.fields(n, "ready", inReady)
	if ok && has(all, "port") == has(all, "command") {
		r.errorf(n, `ready: needs either "port" or "command"`)
	}
	for _, e := range all {
		switch e.key {
		case "port":
			r.number(&to.Port, e.value, "ready.port", 1, 65535)
		case "command":
			to.Command = r.arguments(s, e, "ready.command")
		case "timeout":
			setParsed(r, &to.Timeout, e, "ready.timeout", "a time", timeUpTo(maxReady))
		}
	}
	return to
}
