package pipeline

import (
	"fmt"
	"strings"
)

// piece is a stretch of text as it is, or a reference to what replaces it.
type piece struct {
	text string // for a reference what stands between ${ and }
	ref  bool
}

// pieces takes a value apart: ${X} is a reference, $${ stands for ${, and any
// other $ for itself.
func pieces(s string) ([]piece, error) {
	var all []piece
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			all = append(all, piece{text: plain.String()})
			plain.Reset()
		}
	}
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			plain.WriteString(s)
			flush()
			return all, nil
		}
		plain.WriteString(s[:i])
		s = s[i:]
		switch {
		case strings.HasPrefix(s, "$${"):
			plain.WriteString("${")
			s = s[len("$${"):]
		case strings.HasPrefix(s, "${"):
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, fmt.Errorf("%s is not closed: write $${ where ${ itself is meant", quote(s))
			}
			flush()
			all = append(all, piece{s[len("${"):end], true})
			s = s[end+1:]
		default:
			plain.WriteByte('$')
			s = s[1:]
		}
	}
}

// hasRefs says whether a value is more than plain text.
func hasRefs(s string) bool { return strings.Contains(s, "${") }

// variableOf is the environment variable that an input or a matrix value has in
// every step: level is INPUT_LEVEL, go-version MATRIX_GO_VERSION.
func variableOf(prefix, name string) string {
	return prefix + strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(name))
}

const (
	matrixPrefix = "MATRIX_"
	inputPrefix  = "INPUT_"
)

// shellRefs rewrites a command. Inputs and values of a matrix become references
// to the variables that hold them: pasted into a shell's text, an input of
// "; rm -r /" would be run. $${ becomes ${, all else is the shell's own.
//
// known answers with what is wrong with a reference, or nil.
func shellRefs(s string, known func(ref string) error) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i:]
		if strings.HasPrefix(s, "$${") {
			b.WriteString("${")
			s = s[len("$${"):]
			continue
		}
		ref, rest, ok := ownRef(s)
		if !ok {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		if err := known(ref); err != nil {
			return "", err
		}
		kind, name, _ := strings.Cut(ref, ".")
		prefix := inputPrefix
		if kind == "matrix" {
			prefix = matrixPrefix
		}
		b.WriteString("${" + variableOf(prefix, name) + "}")
		s = rest
	}
}

// ownRef takes a ${matrix.x} or ${inputs.x} from the front of s.
func ownRef(s string) (ref, rest string, ok bool) {
	if !strings.HasPrefix(s, "${matrix.") && !strings.HasPrefix(s, "${inputs.") {
		return "", s, false
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", s, false
	}
	return s[len("${"):end], s[end+1:], true
}

// expression finds what people write who are used to other systems, ${{ matrix.go }}
// or ${ matrix.go }, and says what is meant.
func expression(s string) (wrong, right string) {
	for i := strings.Index(s, "${"); i >= 0; i = strings.Index(s, "${") {
		escaped := i > 0 && s[i-1] == '$'
		s = s[i:]
		inner := strings.TrimLeft(s[len("${"):], "{")
		double := len(inner) < len(s)-len("${")
		name := strings.TrimLeft(inner, " \t")
		own := strings.HasPrefix(name, "matrix.") || strings.HasPrefix(name, "inputs.")
		if escaped || !double && (!own || len(name) == len(inner)) {
			s = s[len("${"):]
			continue
		}
		name, _, _ = strings.Cut(name, "}")
		wrong, _, _ = strings.Cut(s, "\n")
		if end := strings.IndexByte(wrong, '}'); end >= 0 {
			closed := end + 1 + len(wrong[end+1:]) - len(strings.TrimLeft(wrong[end+1:], "}"))
			wrong = wrong[:closed]
		}
		if name = strings.TrimSpace(name); own && !strings.ContainsAny(name, " \t\n") {
			return wrong, "${" + short(name) + "}"
		}
		return wrong, "${matrix.x}, ${inputs.x} or a variable such as $NARWHAL_COMMIT"
	}
	return "", ""
}
