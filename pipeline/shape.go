package pipeline

// shape is what kind of value a key takes, as far as that can be told from the
// value alone. The reader knows more; the JSON Schema is made of these.
type shape struct {
	kind        shapeKind
	least, most int      // of a number
	words       []string // of a choice
	of          *shape   // of a list or a map
	in          *place   // of an object
	any         []*shape // of alternatives
	names       keyNames // of a map's keys
	nothing     bool     // the value may be left out behind the key
	some        bool     // a list or map has at least one
}

type shapeKind int

const (
	isText shapeKind = iota
	isNumber
	isBool
	isChoice
	isList
	isMap
	isObject
	isEither
)

// The shapes of the table.
var (
	text    = &shape{kind: isText}
	boolean = &shape{kind: isBool}
	texts   = &shape{kind: isList, of: text}
	// textOrTexts is one string, or a list of several.
	textOrTexts = either(text, &shape{kind: isList, of: text, some: true})
	envMap      = &shape{kind: isMap, of: &shape{kind: isText, nothing: true}, names: variableNames, nothing: true}
)

func number(least, most int) *shape { return &shape{kind: isNumber, least: least, most: most} }

func choice(words ...string) *shape { return &shape{kind: isChoice, words: words} }

func either(shapes ...*shape) *shape { return &shape{kind: isEither, any: shapes} }

func listOf(s *shape) *shape { return &shape{kind: isList, of: s} }

func object(p *place) *shape { return &shape{kind: isObject, in: p} }

// keyNames are two sets of characters, as inSet has them: a key's first, and its
// others. pattern says the same as a regular expression, without keys that begin
// with x-; it doesn't look ahead, since not all readers of schemas can.
type keyNames struct{ first, rest, pattern string }

var (
	anyNames      = keyNames{pattern: "^([^x]|x$|x[^-]|$)"}
	variableNames = keyNames{"a_", "a0_", "^[A-Za-z_][A-Za-z0-9_]*$"}
	inputNames    = keyNames{"a_", "a0_-", "^([A-Za-wyz_]|x([A-Za-z0-9_]|$))[A-Za-z0-9_-]*$"}
	matrixNames   = keyNames{"a_", "a0_.-", "^([A-Za-wyz_]|x([A-Za-z0-9_.]|$))[A-Za-z0-9_.-]*$"}
	jobNames      = keyNames{"a0", "a0_.-", "^([A-Za-wyz0-9]|x([A-Za-z0-9_.]|$))[A-Za-z0-9_.-]*$"}
	labelNames    = keyNames{"a0", "a0_./-", "^([A-Za-wyz0-9]|x([A-Za-z0-9_./]|$))[A-Za-z0-9_./-]*$"}
)

func (k keyNames) fit(s string, most int) bool { return matches(s, k.first, k.rest, most) }

// field is a key and what it takes.
type field struct {
	key   string
	takes *shape
	doc   string // one sentence, for editors
}

// place is somewhere in a file where keys are read: nowhere is another key
// taken than those of its fields.
type place struct {
	id     string // in the JSON Schema
	where  string // "in a job"
	fields []field
	must   []string   // keys that must be there
	one    [][]string // of each of these exactly one
	rest   *shape     // of keys of any other name; nil where there are none
}

func (p *place) keys() []string {
	all := make([]string, len(p.fields))
	for i, f := range p.fields {
		all[i] = f.key
	}
	return all
}

func (p *place) has(key string) bool {
	for _, f := range p.fields {
		if f.key == key {
			return true
		}
	}
	return false
}
