package input

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// These are the limits on names, ids and info that clients and tokens send. A package that exports
// a limit, or states it in an error, uses the constant from here.
const (
	MaxRoomName  = 128     // bytes
	MaxUserID    = 256     // bytes
	MaxUserName  = 128     // bytes
	MaxInfo      = 1 << 10 // bytes of compact JSON
	MaxEventName = 64      // characters
	MaxMessageID = 64      // characters of a message's idempotency key
)

// PlainBytes reports whether s is plain text of at most max bytes. Plain text is valid UTF-8
// without control characters, so that it cannot forge a line in a stream or a log. The empty string
// is plain text.
func PlainBytes(s string, max int) bool { return len(s) <= max && plain(s) }

// PlainChars is like PlainBytes, but with a limit in characters (Unicode code points).
func PlainChars(s string, max int) bool { return Chars(s, max) && plain(s) }

// Chars reports whether s has at most max characters. Each byte that is not valid UTF-8 counts as
// one character.
func Chars(s string, max int) bool { return utf8.RuneCountInString(s) <= max }

// Exact reports whether s is valid UTF-8 without U+FFFD. encoding/json replaces an unpaired
// surrogate with U+FFFD, so two different ids could become equal.
func Exact(s string) bool { return !strings.ContainsRune(s, utf8.RuneError) }

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// IsUserID reports whether s is a valid user id: 1 to 256 bytes that Clean does not change.
func IsUserID(s string) bool { return s != "" && len(s) <= MaxUserID && Clean(s) == s }

// Clean removes the characters that would make two names look alike, or that could forge a line in
// a log: control and format characters (category Cf), U+FFFD and invalid UTF-8. Most format
// characters are invisible, and some change the direction of the text.
//
// A run of the joiners U+200C and U+200D remains between two non-ASCII characters, because emoji
// sequences and words of some languages, such as Persian, contain them. A second call changes
// nothing.
func Clean(s string) string {
	if isPlainASCII(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	end := 0 // length of b without the joiners at its end
	for _, r := range s {
		switch {
		case r == '\u200c', r == '\u200d':
			b = utf8.AppendRune(b, r)
		case r == utf8.RuneError, unicode.In(r, unicode.Cc, unicode.Cf):
		default:
			if r < utf8.RuneSelf || end == 0 || b[end-1] < utf8.RuneSelf {
				b = b[:end]
			}
			b = utf8.AppendRune(b, r)
			end = len(b)
		}
	}
	if string(b[:end]) == s {
		return s
	}
	return string(b[:end])
}

// isPlainASCII reports whether s is ASCII without control characters.
func isPlainASCII(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
