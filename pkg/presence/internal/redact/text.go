// Package redact removes tokens from log lines. It imports no other package of this module.
package redact

import (
	"regexp"
	"strings"
)

// maxText is the maximum length of a client's text in the log, in bytes.
const maxText = 256

// token matches a JSON Web Token in compact form (RFC 7515 section 7.1), and the beginning of one
// that was cut. The first part begins with eyJ, because it is the base64url form of an object, and
// objects without a blank after the brace begin so.
var token = regexp.MustCompile(`[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{5,}[A-Za-z0-9_.-]*`)

// tokens replaces each token by [token].
func tokens(s string) string {
	if !strings.Contains(s, ".") && !strings.Contains(s, "eyJ") {
		return s
	}
	return token.ReplaceAllLiteralString(s, "[token]")
}

// Text returns a text from a client in the form in which it may be logged: at most 256 bytes, and
// [token] for each token in it. A client can put its token into a path, a room name or a request id
// by mistake.
func Text(s string) string {
	s = tokens(s)
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
