package room

import "strings"

// Patterns are patterns of room names. In a pattern, * matches any run of characters, also an empty
// one: "doc-*" matches "doc-1" and "doc-". Nil matches nothing.
type Patterns []string

// Match reports whether one of the patterns matches the whole name.
func (p Patterns) Match(name Name) bool {
	for _, pattern := range p {
		if match(pattern, string(name)) {
			return true
		}
	}
	return false
}

// match reports whether the pattern matches the whole name. It matches each piece between two stars
// at the first index where the piece fits. This leaves the longest rest for the next pieces, so
// match never backtracks. The two lengths bound its time.
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
