package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// scope is what a ${…} may name where it stands. In Read the values aren't known
// yet, and only the names count.
type scope struct {
	facts  map[string]string // built-in variables
	inputs map[string]string
	matrix map[string]string // nil outside of a matrix
	job    string            // whose matrix it is, for messages
	env    *layer            // of the innermost place
	static bool              // values aren't known
	// checksums says that ${checksum:path} is welcome, and left in place.
	checksums bool
}

// layer is one env of the file, laid over those of the places around it.
type layer struct {
	below     *layer
	variables map[string]*variable
	order     []*variable // as in the file, so that the same error is told every time
}

// variable is a variable of a file's env. Its value is found when it is asked
// for: it may name variables below it, or others of its own layer.
type variable struct {
	name  string
	at    *yaml.Node
	text  string // as it is written
	state visit
	value string
	ok    bool // value is known
}

// under gives a scope whose innermost env is that of variables.
func (sc *scope) under(variables []*variable) *scope {
	inner := *sc
	if len(variables) > 0 {
		l := &layer{below: sc.env, variables: make(map[string]*variable, len(variables)), order: variables}
		for _, v := range variables {
			l.variables[v.name] = v
		}
		inner.env = l
	}
	return &inner
}

// find looks a variable up, from a layer downwards. A variable that names itself
// means the one that it is laid over.
func (l *layer) find(name string, self *variable) (*variable, *layer) {
	for ; l != nil; l = l.below {
		if v := l.variables[name]; v != nil && v != self {
			return v, l
		}
	}
	return nil, nil
}

// expand replaces the references of a value. It answers false with the error
// noted, and without one where a value is not known yet.
func (r *reader) expand(n *yaml.Node, what, s string) (string, bool) {
	if !hasRefs(s) {
		return s, true
	}
	if r.scope == nil {
		return r.literal(n, what, s)
	}
	return r.expandIn(r.scope, nil, n, what, s)
}

// literal takes a value where nothing is replaced.
func (r *reader) literal(n *yaml.Node, what, s string) (string, bool) {
	all, err := pieces(s)
	if err != nil || len(all) > 1 || len(all) == 1 && all[0].ref {
		r.errorf(n, "%s: %s: nothing is replaced here, write the value itself, or $${ where ${ is meant", what, quote(s))
		return "", false
	}
	return all[0].text, true
}

// expandIn works in a scope, for the variable self where its value is wanted.
func (r *reader) expandIn(sc *scope, self *variable, n *yaml.Node, what, s string) (string, bool) {
	all, err := pieces(s)
	if err != nil {
		r.errorf(n, "%s: %v", what, err)
		return "", false
	}
	var b strings.Builder
	known := true
	for _, p := range all {
		if r.full() {
			return "", false
		}
		text, ok := p.text, true
		if p.ref {
			text, ok, err = r.value(sc, self, p.text)
			if err != nil {
				r.errorf(n, "%s: %v", what, err)
			}
		}
		if known = known && ok; !known {
			continue // the names of the others are checked too
		}
		if !r.spend(n, len(text)) {
			return "", false
		}
		b.WriteString(text)
	}
	return b.String(), known
}

// spend counts bytes that were written in the place of references. What they
// come to in all is bounded as the file itself is.
func (r *reader) spend(n *yaml.Node, size int) bool {
	if r.budget -= size; r.budget >= 0 {
		return true
	}
	if r.spent == nil {
		r.spent = n
		r.errorf(n, "%s", tooLong)
	}
	return false
}

const tooLong = "with all ${…} replaced the file is larger than 4 MiB"

// value gives what replaces a reference. It answers false and no error where
// that isn't known yet, or where the error has been noted already.
func (r *reader) value(sc *scope, self *variable, ref string) (string, bool, error) {
	if path, ok := strings.CutPrefix(ref, "checksum:"); ok {
		if !sc.checksums {
			return "", false, fmt.Errorf("${%s}: checksums are for the key and the restore_keys of a cache", short(ref))
		}
		if err := checksumPath(path); err != nil {
			return "", false, err
		}
		return "${" + ref + "}", true, nil
	}
	if strings.HasPrefix(ref, "matrix.") || strings.HasPrefix(ref, "inputs.") {
		if err := sc.checkOwn(ref); err != nil {
			return "", false, err
		}
		from := sc.inputs
		if strings.HasPrefix(ref, "matrix.") {
			from = sc.matrix
		}
		return r.safe(sc, ref, from[ref[len("matrix."):]])
	}
	if v, builtIn := sc.facts[ref]; builtIn {
		return r.safe(sc, ref, v)
	}
	if !isEnvName(ref) {
		return "", false, badRef(ref)
	}
	v, at := sc.env.find(ref, self)
	switch {
	case v == nil && self != nil && self.name == ref:
		return "", false, fmt.Errorf("${%s} names itself: there is no other below it", short(ref))
	case v == nil:
		return "", false, sc.unknown(ref, len(r.found) < 2*maxErrors)
	}
	return r.resolve(sc, v, at, ref)
}

// safe gives a value, unless it would ask for a checksum that the file doesn't.
func (r *reader) safe(sc *scope, ref, value string) (string, bool, error) {
	if sc.static {
		return "", false, nil
	}
	if sc.checksums && hasRefs(value) {
		return "", false, fmt.Errorf("${%s} holds %s: a cache's key can't have a ${ from elsewhere", ref, quote(value))
	}
	return value, true, nil
}

// resolve gives a variable's value, which is worked out once.
func (r *reader) resolve(sc *scope, v *variable, at *layer, ref string) (string, bool, error) {
	switch v.state {
	case onPath:
		return "", false, fmt.Errorf("${%s}: variables that are made of each other", short(ref))
	case finished:
	case unvisited:
		if r.deep++; r.deep > maxRefDepth {
			r.deep--
			return "", false, fmt.Errorf("${%s}: variables made of each other more than %d deep", short(ref), maxRefDepth)
		}
		v.state = onPath
		own := *sc
		own.env, own.checksums = at, false
		v.value, v.ok = r.expandIn(&own, v, v.at, "env."+v.name, v.text)
		if v.ok && len(v.value) > maxEnvValue {
			r.errorf(v.at, "env: %s is longer than %d bytes", v.name, maxEnvValue)
			v.ok = false
		}
		v.state = finished
		r.deep--
	}
	if !v.ok {
		return "", false, nil
	}
	if sc.checksums && hasRefs(v.value) {
		return "", false, fmt.Errorf("${%s} holds %s: a cache's key can't have a ${ from elsewhere", ref, quote(v.value))
	}
	return v.value, true, nil
}

// checkOwn says what is wrong with a matrix.x or inputs.x.
func (sc *scope) checkOwn(ref string) error {
	kind, name, _ := strings.Cut(ref, ".")
	known, none := sc.inputs, `the file has no "inputs"`
	if kind == "matrix" {
		known, none = sc.matrix, `there is no "matrix" here`
		if sc.job != "" {
			none = fmt.Sprintf(`job %s has no "matrix"`, quote(sc.job))
		}
	}
	if _, ok := known[name]; ok {
		return nil
	}
	if len(known) == 0 {
		return fmt.Errorf("${%s}: %s", short(ref), none)
	}
	names := slices.Sorted(maps.Keys(known))
	if s := suggest(name, names); s != "" {
		return fmt.Errorf("${%s}: there is no %s: did you mean ${%s.%s}?", short(ref), quote(name), kind, s)
	}
	return fmt.Errorf("${%s}: there is no %s: %s has %s", short(ref), quote(name), kind, someOf(names))
}

// later are variables that a step has, and that nobody knows before it runs.
var later = []string{
	"NARWHAL_ATTEMPT", "NARWHAL_FENCE_TOKEN", "NARWHAL_JOB", "NARWHAL_JOB_NAME", "NARWHAL_NODE", "NARWHAL_NODE_ID", "NARWHAL_URL",
}

// unknown says that there is no such variable, and with hint which was meant.
func (sc *scope) unknown(ref string, hint bool) error {
	if slices.Contains(later, ref) {
		return fmt.Errorf("${%s} is known only while the job runs: use it in a command", ref)
	}
	names := slices.Concat(slices.Sorted(maps.Keys(sc.facts)), later)
	for l := sc.env; l != nil && hint; l = l.below {
		for _, v := range l.order[:min(len(l.order), maxSuggested)] {
			names = append(names, v.name)
		}
	}
	if s := suggest(ref, names); s != "" {
		return fmt.Errorf("there is no variable ${%s}: did you mean ${%s}?", short(ref), s)
	}
	return fmt.Errorf("there is no variable ${%s}: outside of commands only those of env in this file and NARWHAL_… are known; "+
		"write $${ where ${ itself is meant", short(ref))
}

func badRef(ref string) error {
	hint := "${VAR}, ${matrix.x}, ${inputs.x} and ${checksum:path} are all there is; write $${ where ${ itself is meant"
	if strings.HasPrefix(ref, "{") {
		hint = "there are no expressions; " + hint
	}
	return fmt.Errorf("${%s}: %s", short(ref), hint)
}

// checksumPath says what is wrong with the path of a ${checksum:path}.
func checksumPath(path string) error {
	switch {
	case path == "":
		return errors.New("${checksum:}: the path of a file is missing")
	case !isInside(path) || strings.ContainsAny(path, "${\\"):
		return fmt.Errorf("${checksum:%s}: expected the path of a file, from the root of the repository", short(path))
	}
	return nil
}

// short keeps a piece of the file in a message to one line.
func short(s string) string {
	q := strings.TrimPrefix(quote(s), `"`)
	if cut, ok := strings.CutSuffix(q, `"…`); ok {
		return cut + "…"
	}
	return strings.TrimSuffix(q, `"`)
}

// someOf lists names, but not hundreds.
func someOf(names []string) string {
	const most = 20
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
