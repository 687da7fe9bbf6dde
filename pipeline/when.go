package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// condition is one alternative of a when. What is nil fits everything.
type condition struct {
	events, branches, tags, paths []string
	env                           []wish
	success, failure              bool // what must have become of what came before
	manual                        bool
}

// wish is a variable that must have one of some values.
type wish struct {
	name, value string
	globs       []string
}

// verdict is what a when comes to.
type verdict struct {
	When
	skip string // why it doesn't run
}

// whenOf reads the first when there is of a job. Facts are nil while they aren't known.
func (r *reader) whenOf(facts *Facts, b *body, places ...[]entry) verdict {
	for _, all := range places {
		for _, e := range all {
			if e.key != "when" {
				continue
			}
			conditions, ok := r.conditions(e.value)
			if ok && len(b.needs) == 0 && !slices.ContainsFunc(conditions, func(c condition) bool { return c.success }) {
				r.warnf(e.at, "when: job %s never runs: it waits for a failure of what it needs, and needs nothing", quote(b.name))
			}
			if !ok || facts == nil {
				return verdict{}
			}
			return r.weigh(conditions, *facts)
		}
	}
	return verdict{}
}

// when reads a step's alternatives and, where facts are known, weighs them.
func (r *reader) when(n *yaml.Node, facts *Facts) verdict {
	conditions, ok := r.conditions(n)
	if !ok {
		return verdict{}
	}
	if facts == nil { // whatever the facts are: a person is asked
		other := slices.ContainsFunc(conditions, func(c condition) bool { return !c.manual })
		return verdict{When: When{Manual: !other}}
	}
	return r.weigh(conditions, *facts)
}

// conditions reads alternatives; ok is false where there is something wrong with one.
func (r *reader) conditions(n *yaml.Node) (all []condition, ok bool) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if items, ok = r.items(n, "when"); !ok {
			return nil, false
		}
		if len(items) == 0 {
			r.errorf(n, "when: is empty: it needs at least one alternative")
			return nil, false
		}
	}
	for _, item := range items {
		before := len(r.found)
		c := r.condition(item)
		if len(r.found) == before {
			all = append(all, c)
		}
	}
	return all, len(all) == len(items)
}

// weigh joins the alternatives that fit: any of them is enough.
func (r *reader) weigh(all []condition, facts Facts) verdict {
	var why []string
	var success, failure bool
	manual := true
	for _, c := range all {
		if reason := r.misses(c, facts); reason != "" {
			why = append(why, reason)
			continue
		}
		success, failure = success || c.success, failure || c.failure
		manual = manual && c.manual
	}
	switch {
	case len(why) == len(all) && len(all) == 1:
		return verdict{skip: why[0]}
	case len(why) == len(all):
		const most = 5
		return verdict{skip: fmt.Sprintf("none of %d conditions fits: %s", len(all), strings.Join(why[:min(most, len(why))], " · "))}
	}
	v := verdict{When: When{Manual: manual}}
	switch {
	case success && failure:
		v.On = Always
	case failure:
		v.On = OnFailure
	}
	return v
}

// misses says why a condition doesn't fit; empty where it does.
func (r *reader) misses(c condition, f Facts) string {
	switch {
	case !globsFit(c.events, f.Event):
		return fmt.Sprintf("event is %s; it wants %s", f.Event, wants(c.events))
	case c.branches != nil && f.target() == "":
		return "there is no branch; it wants " + wants(c.branches)
	case !globsFit(c.branches, f.target()):
		return fmt.Sprintf("branch is %s; it wants %s", plain(f.target()), wants(c.branches))
	case c.tags != nil && f.Tag == "":
		return "there is no tag; it wants " + wants(c.tags)
	case !globsFit(c.tags, f.Tag):
		return fmt.Sprintf("tag is %s; it wants %s", plain(f.Tag), wants(c.tags))
	case c.paths != nil && f.ChangedKnown && !r.touches(c.paths, f.Changed):
		return "no changed path fits " + wants(c.paths)
	}
	for _, w := range c.env {
		if !globsFit(w.globs, w.value) {
			return fmt.Sprintf("%s is %s; it wants %s", w.name, quote(w.value), wants(w.globs))
		}
	}
	return ""
}

// touches says whether one of the paths fits.
func (r *reader) touches(globs, paths []string) bool {
	size := 0
	for _, g := range globs {
		size += len(g)
	}
	for _, path := range paths {
		if r.globbed += size * (len(path) + 1); r.globbed > maxGlobWork || globsFit(globs, path) {
			return true
		}
	}
	return false
}

// wants lists globs for people.
func wants(globs []string) string {
	const most = 5
	var words []string
	for _, g := range globs[:min(most, len(globs))] {
		word, not := strings.CutPrefix(g, "!")
		if word = plain(word); not {
			word = "not " + word
		}
		words = append(words, word)
	}
	if len(globs) > most {
		words = append(words, "…")
	}
	return strings.Join(words, " or ")
}

// plain shows a name, in quotes only where it would not be one word.
func plain(s string) string {
	if len(s) > maxNameLen || strings.ContainsFunc(s, func(c rune) bool { return c == ' ' || c == '"' || isControl(c) }) || s == "" {
		return quote(s)
	}
	return s
}

// condition reads one alternative.
func (r *reader) condition(n *yaml.Node) condition {
	if n.Kind != yaml.MappingNode {
		return r.conditionWord(n)
	}
	c := condition{success: true}
	all, _ := r.fields(n, "when", inWhen)
	for _, e := range all {
		switch e.key {
		case "event":
			c.events = r.events(e.value)
		case "branch":
			c.branches = r.globs(e.value, "when.branch")
		case "tag":
			c.tags = r.globs(e.value, "when.tag")
		case "path":
			r.paths = true
			c.paths = r.globs(e.value, "when.path")
		case "status":
			r.status(&c, e.value)
		case "env":
			c.env = r.wishes(e.value)
		case "manual":
			r.boolean(&c.manual, e.value, "when.manual")
		}
	}
	if c.branches != nil && c.tags != nil {
		r.warnf(n, "when: this never fits: a commit has a branch or a tag, not both; a list of two would fit either")
	}
	return c
}

// conditionWord reads on_success, on_failure, always or manual.
func (r *reader) conditionWord(n *yaml.Node) condition {
	words := []string{statusSuccess, string(OnFailure), string(Always), onManual}
	s, ok := r.word(n, "when", words, "a map, or a list of these")
	if !ok {
		return condition{}
	}
	return condition{
		success: s != string(OnFailure),
		failure: s == string(OnFailure) || s == string(Always),
		manual:  s == onManual,
	}
}

// events reads names of events.
func (r *reader) events(n *yaml.Node) []string {
	var all []string
	for _, e := range r.some(n, "when.event", maxNameLen, maxPaths) {
		if word := strings.TrimPrefix(e.text, "!"); !slices.Contains(eventNames, word) {
			r.errorf(e.at, "when.event: %s", notOne(word, eventNames))
			continue
		}
		all = append(all, e.text)
	}
	return all
}

// globs reads one glob or a list of them.
func (r *reader) globs(n *yaml.Node, what string) []string {
	var all []string
	for _, g := range r.some(n, what, maxPathLen, maxPaths) {
		switch {
		case strings.ContainsAny(g.text, "[]{}"):
			r.errorf(g.at, "%s: %s: a glob has *, ?, ** and a leading ! alone; write alternatives as a list", what, quote(g.text))
		case g.text == "!":
			r.errorf(g.at, `%s: "!" has no glob behind it`, what)
		case what == "when.path" && !isInside(strings.TrimPrefix(g.text, "!")):
			r.errorf(g.at, "%s: %s: paths begin at the root of the repository, without / or ..", what, quote(g.text))
		default:
			all = append(all, g.text)
		}
	}
	return all
}

func (r *reader) status(c *condition, n *yaml.Node) {
	c.success = false
	words := []string{"success", "failure"}
	for _, s := range r.some(n, "when.status", maxNameLen, maxPaths) {
		switch s.text {
		case "success":
			c.success = true
		case "failure":
			c.failure = true
		default:
			r.errorf(s.at, "when.status: %s", notOne(s.text, words))
		}
	}
}

// wishes reads the env of a when: globs by the names of variables.
func (r *reader) wishes(n *yaml.Node) []wish {
	all, _ := r.entries(n, "when.env")
	var wishes []wish
	for _, e := range all {
		w := wish{name: e.key, globs: r.globs(e.value, "when.env."+short(e.key))}
		value, ok, err := r.value(r.scope, nil, e.key)
		if err != nil {
			r.errorf(e.at, "when.env: %v", err)
		}
		if w.value = value; ok && w.globs != nil {
			wishes = append(wishes, w)
		}
	}
	return wishes
}
