package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// process holds the environment and the standard streams that a command uses.
type process struct {
	getenv         func(string) string
	environ        func() []string // the whole environment, as [os.Environ] returns it
	stdin          io.Reader
	stdout, stderr io.Writer

	unknown []unknownVariable // unknown variables in environ; set by execute, logged by serve
}

// warnUnknown prints one warning line to stderr for each unknown variable.
func (p *process) warnUnknown() {
	for _, v := range p.unknown {
		fmt.Fprintln(p.stderr, "presence: warning:", printable(v.String()))
	}
}

// usageError is an error in the command line. It causes the exit status 2.
type usageError struct{ error }

// usagef returns a usageError. The text must name the flag.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// printable replaces control characters, line breaks and marks of text direction, because data and
// errors may contain text from other users. A terminal would execute the control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
