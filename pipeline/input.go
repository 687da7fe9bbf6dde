package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// readInputs reads what is asked for when a build is started by hand.
func (r *reader) readInputs(n *yaml.Node) []Input {
	if isNull(n) {
		return nil
	}
	all, _ := r.entries(n, "inputs")
	if len(all) > maxInputs {
		r.errorf(all[maxInputs].at, "inputs: more than %d", maxInputs)
		return nil
	}
	var inputs []Input
	variables := make(map[string]string)
	for _, e := range all {
		variable := variableOf(inputPrefix, e.key)
		switch {
		case !inputNames.fit(e.key, maxJobName):
			r.errorf(e.at, "inputs: name %s: use letters, digits, _ and -, at most %d, the first a letter", quote(e.key), maxJobName)
		case variables[variable] != "":
			r.errorf(e.at, "inputs: %s and %s would both be %s in a step", quote(variables[variable]), quote(e.key), variable)
		default:
			variables[variable] = e.key
		}
		inputs = append(inputs, r.input(e))
	}
	return inputs
}

func (r *reader) input(e entry) Input {
	in := Input{Name: e.key, Type: inputTypes[0]}
	what := "inputs." + short(e.key)
	if isNull(e.value) {
		return in
	}
	all, _ := r.fields(e.value, what, inInput)
	var def *entry
	for _, f := range all {
		switch f.key {
		case "type":
			if s, ok := r.word(f.value, what+".type", inputTypes); ok {
				in.Type = s
			}
		case "default":
			def = &f
		case "required":
			r.boolean(&in.Required, f.value, what+".required")
		case "options":
			in.Options = r.options(f.value, what+".options")
		case "description":
			in.Description, _ = r.line(f.value, what+".description", maxDescription)
		}
	}
	choice := in.Type == "choice"
	switch {
	case choice && !has(all, "options"):
		r.errorf(e.value, `%s: a choice needs "options"`, what)
	case !choice && has(all, "options"):
		r.errorf(e.value, `%s: "options" are for type: choice`, what)
	case choice && def == nil && !in.Required:
		r.errorf(e.value, `%s: a choice needs a "default" or "required: true"`, what)
	}
	if in.Type == "boolean" {
		in.Default = "false"
	}
	if def != nil {
		r.inputDefault(&in, def.value, what)
	}
	return in
}

func (r *reader) inputDefault(in *Input, n *yaml.Node, what string) {
	s, ok := r.scalar(n, what+".default", "a value")
	if !ok {
		return
	}
	if err := in.Check(s); err != nil {
		r.errorf(n, "%s.default: %v", what, err)
		return
	}
	in.Default, in.HasDefault = s, true
}

func (r *reader) options(n *yaml.Node, what string) []string {
	items, ok := r.items(n, what)
	if ok && (len(items) == 0 || len(items) > maxPaths) {
		r.errorf(n, "%s: expected from 1 to %d of them", what, maxPaths)
		return nil
	}
	var all []string
	for _, o := range r.lines(items, what, maxNameLen) {
		if slices.Contains(all, o.text) {
			r.errorf(o.at, "%s: %s is there twice", what, quote(o.text))
			continue
		}
		all = append(all, o.text)
	}
	return all
}

// Check says what is wrong with a value for this input, or nil.
func (in Input) Check(value string) error {
	switch {
	case in.Required && value == "":
		return errors.New("it is required, and must not be empty")
	case len(value) > maxInputValue:
		return fmt.Errorf("is longer than %d bytes", maxInputValue)
	case strings.ContainsFunc(value, isControl), strings.ToValidUTF8(value, "") != value:
		return fmt.Errorf("%s holds a line break or a control character", quote(value))
	case in.Type == "number" && !isDecimal(value):
		return fmt.Errorf("expected a number, found %s", quote(value))
	case in.Type == "boolean" && value != "true" && value != "false":
		return fmt.Errorf("expected true or false, found %s", quote(value))
	case in.Type == "choice" && len(in.Options) > 0 && !slices.Contains(in.Options, value):
		return fmt.Errorf("%s", notOne(value, in.Options))
	}
	return nil
}

func isDecimal(s string) bool {
	whole, fraction, dot := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	return digits(whole) && (!dot || digits(fraction))
}

// given sees that inputs which were given are those of the file, and that none
// which must be given is missing. tell gets what is wrong.
func given(inputs []Input, values map[string]string, must bool, tell func(in *Input, message string)) {
	known := make(map[string]bool, len(inputs))
	var names []string
	for i := range inputs {
		in := &inputs[i]
		known[in.Name] = true
		names = append(names, in.Name)
		value, is := values[in.Name]
		if is {
			if err := in.Check(value); err != nil {
				tell(in, fmt.Sprintf("input %s: %v", quote(in.Name), err))
			}
		} else if must && in.Required && !in.HasDefault {
			tell(in, fmt.Sprintf("input %s must be given", quote(in.Name)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if known[name] {
			continue
		}
		message := fmt.Sprintf("there is no input %s", quote(name))
		if s := suggest(name, names); s != "" {
			message += fmt.Sprintf(": did you mean %q?", s)
		} else if len(names) > 0 {
			message += ": the file has " + someOf(names)
		}
		tell(nil, message)
	}
}

// giveInputs gives every input of the file its value. One that must be given can
// be missing where nobody was asked, as for a push.
func (r *reader) giveInputs(f *File, facts Facts) map[string]string {
	at := yaml.Node{Line: 1, Column: 1}
	if f.top.inputs != nil {
		at = *f.top.inputs.at
	}
	asked := facts.Event == eventManual || facts.Event == eventSchedule
	given(f.Inputs, facts.Inputs, asked, func(_ *Input, message string) { r.errorf(&at, "%s", message) })
	values := make(map[string]string, len(f.Inputs))
	for _, in := range f.Inputs {
		values[in.Name] = in.Default
		if v, ok := facts.Inputs[in.Name]; ok {
			values[in.Name] = v
		}
	}
	return values
}
