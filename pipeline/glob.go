package pipeline

import "unicode/utf8"

// globPart is a piece of a glob.
type globPart struct {
	kind globKind
	char rune
}

type globKind int

const (
	globChar globKind = iota
	globAny           // ?: one character, no slash
	globStar          // *: any number of them
	globAll           // **: anything
	globDirs          // **/: nothing, or anything up to a slash
)

func parseGlob(glob string) []globPart {
	var parts []globPart
	for i := 0; i < len(glob); {
		rest := glob[i:]
		switch {
		case rest[0] == '?':
			parts = append(parts, globPart{kind: globAny})
			i++
		case len(rest) >= 3 && rest[:3] == "**/" && (i == 0 || glob[i-1] == '/'):
			parts = append(parts, globPart{kind: globDirs})
			i += 3
		case len(rest) >= 2 && rest[:2] == "**":
			parts = append(parts, globPart{kind: globAll})
			i += 2
		case rest[0] == '*':
			parts = append(parts, globPart{kind: globStar})
			i++
		default:
			c, size := utf8.DecodeRuneInString(rest)
			parts = append(parts, globPart{globChar, c})
			i += size
		}
	}
	return parts
}

// globFits says whether a glob fits the whole of s, in time of the product of
// their lengths. * and ? don't go over a slash, ** does.
func globFits(glob, s string) bool {
	text := []rune(s)
	reached := make([]bool, len(text)+1) // the places that the parts so far can end at
	next := make([]bool, len(text)+1)
	reached[0] = true
	for _, p := range parseGlob(glob) {
		some, before := false, false
		for j := range next {
			prior := rune(0)
			if j > 0 {
				prior = text[j-1]
				before = before || reached[j-1]
			}
			switch p.kind {
			case globChar:
				next[j] = j > 0 && reached[j-1] && prior == p.char
			case globAny:
				next[j] = j > 0 && reached[j-1] && prior != '/'
			case globStar:
				next[j] = reached[j] || j > 0 && next[j-1] && prior != '/'
			case globAll:
				next[j] = reached[j] || j > 0 && next[j-1]
			case globDirs:
				next[j] = reached[j] || before && prior == '/'
			}
			some = some || next[j]
		}
		if !some {
			return false
		}
		reached, next = next, reached
	}
	return reached[len(text)]
}

// globsFit goes through a list: the last glob that fits decides, and one that
// begins with ! decides against. A list that begins with such a one leaves out
// of everything, others pick from nothing.
func globsFit(globs []string, s string) bool {
	fits := len(globs) == 0 || globs[0][0] == '!'
	for _, g := range globs {
		negative := g[0] == '!'
		if negative {
			g = g[1:]
		}
		if negative == fits && globFits(g, s) {
			fits = !negative
		}
	}
	return fits
}
