package room

import "strings"

// Patterns are patterns of room names, in which * stands for any run of characters, the empty one
// too: "doc-*" matches "doc-1" and "doc-". Nil matches nothing.
type Patterns []string

// Match reports whether any of the patterns matches the whole of name.
func (p Patterns) Match(name Name) bool {
	for _, pattern := range p {
		if match(pattern, string(name)) {
			return true
		}
	}
	return false
}

// match matches each piece between two stars at the first place where it fits. That leaves the most
// for the pieces after it, so it never goes back, and its time is bounded by the two lengths.
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
