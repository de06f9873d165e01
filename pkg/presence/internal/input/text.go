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
