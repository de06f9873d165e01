package room

import "strings"

// Patterns is a list of patterns for room names. In a pattern, * matches any sequence of
// characters, including an empty one: "doc-*" matches "doc-1" and "doc-". A nil list matches no
// name.
type Patterns []string

// Match reports whether any pattern matches the whole name.
func (p Patterns) Match(name Name) bool {
	for _, pattern := range p {
		if match(pattern, string(name)) {
			return true
		}
	}
	return false
}

// match reports whether the pattern matches the whole name. It matches each piece between two stars
// at the earliest possible index. This leaves the longest possible rest for the following pieces,
// so match never has to backtrack. Its running time is bounded by the lengths of the pattern and
// the name.
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
