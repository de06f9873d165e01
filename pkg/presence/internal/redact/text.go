// Package redact removes tokens and hidden characters from log lines. It imports no other package
// of this module.
package redact

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// maxText is the maximum length of a client's text in the log, in bytes.
const maxText = 256

const (
	letter = `(?:[A-Za-z0-9_-]|%(?:25)*(?:2[Dd]|5[Ff]))` // of base64url
	dot    = `(?:\.|%(?:25)*2[Ee])`

	// object is the beginning of a JSON object in base64url: {" or { and white space.
	object = `(?:eyJ|eyA[gi]|ewk[gi]|ewo[giJKN]|ew0[giK])`
)

// token matches a JSON Web Token in compact form (RFC 7515 section 7.1), and the beginning of one
// that was cut. If a client has escaped a path twice, the characters that are no letters or digits
// are still escaped.
var token = regexp.MustCompile(letter + `{8,}` + dot + letter + `{8,}` + dot + letter + `{20,}|` +
	object + letter + `{5,}(?:` + letter + `|` + dot + `)*`)

// clean replaces each token by [token], and each character that a terminal could obey or hide by
// its code, such as \u202e. JSON has only the characters below U+0020 as codes.
func clean(s string) string {
	if strings.ContainsAny(s, ".%") || strings.Contains(s, "ey") || strings.Contains(s, "ew") {
		s = token.ReplaceAllLiteralString(s, "[token]")
	}
	if !strings.ContainsFunc(s, isHidden) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if isHidden(c) {
			fmt.Fprintf(&b, "\\u%04x", c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

func isHidden(c rune) bool { return c >= 0x7f && !unicode.IsPrint(c) }

// Text returns a text from a client in the form in which it may be logged: at most 256 bytes,
// [token] for each token in it, and codes for hidden characters. A client can put its token into a
// path, a room name or a request id by mistake.
func Text(s string) string { return Cut(s, maxText) }

// Cut is like [Text], with another limit in bytes. It cuts after it has replaced the tokens,
// because a part of a token could look like another text.
func Cut(s string, most int) string {
	s = clean(s)
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxList is the maximum number of texts in the result of [List].
const maxList = 4

// List returns the first four texts, each like [Quote] with that limit, and the number of others.
// The result for no text is "none".
func List(texts []string, most int) string {
	if len(texts) == 0 {
		return "none"
	}
	var quoted []string
	for _, s := range texts[:min(len(texts), maxList)] {
		quoted = append(quoted, Quote(s, most))
	}
	list := strings.Join(quoted, ", ")
	if more := len(texts) - maxList; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// Quote is like [Cut], and returns the text as a quoted Go string.
func Quote(s string, most int) string { return strconv.Quote(Cut(s, most)) }
