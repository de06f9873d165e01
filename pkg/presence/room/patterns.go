package room

import "strings"

// Patterns are names in which * stands for any run of characters, the empty
// one too: "doc-*" matches "doc-1" and "doc-". Nil matches nothing.
type Patterns []string

// Match reports whether any of the patterns matches the whole of name.
func (p Patterns) Match(name string) bool {
	for _, pattern := range p {
		if match(pattern, name) {
			return true
		}
	}
	return false
}

// match takes each piece between two stars at the first place where it fits:
// what is left for the pieces after it is then the longest, so there is
// nothing to go back to, and no pattern takes long.
func match(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	for ok {
		var piece string
		if piece, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(name, piece)
		}
		_, name, ok = strings.Cut(name, piece)
	}
	return false
}
