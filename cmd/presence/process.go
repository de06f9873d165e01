package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// process holds the environment and the streams of the process that a command runs in.
type process struct {
	getenv         func(string) string
	environ        func() []string // the whole environment, as [os.Environ] returns it
	stdin          io.Reader
	stdout, stderr io.Writer

	unknown []unknownVariable // of environ; set by execute, logged by serve
}

// warnUnknown writes one line per unknown variable to stderr.
func (p *process) warnUnknown() {
	for _, v := range p.unknown {
		fmt.Fprintln(p.stderr, "presence: warning:", printable(v.String()))
	}
}

// usageError is an error in the command line.
type usageError struct{ error }

// usagef returns a usageError. Its text names the flag.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// printable replaces control characters, which a terminal executes, line breaks, and marks of text
// direction. Data and errors contain text of other users.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
