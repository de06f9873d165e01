// Package redact removes tokens and hidden characters from log lines. It imports no other package
// of this module.
package redact

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// maxText is the maximum length of a client's text in the log, in bytes.
const maxText = 256

// token matches a JSON Web Token in compact form (RFC 7515 section 7.1), and the beginning of one
// that was cut. The first part begins with eyJ, because it is the base64url form of an object, and
// objects without a blank after the brace begin so.
var token = regexp.MustCompile(`[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{5,}[A-Za-z0-9_.-]*`)

// clean replaces each token by [token], and each character that a terminal could obey or hide by
// its code, such as \u202e. JSON has only the characters below U+0020 as codes.
func clean(s string) string {
	if strings.Contains(s, ".") || strings.Contains(s, "eyJ") {
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
func Text(s string) string {
	s = clean(s)
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
