package doctor

import (
	"fmt"
	"strings"
)

// Level is the result of a check.
type Level string

// The levels of a verdict.
const (
	OK    Level = "ok"
	Note  Level = "note"
	Fault Level = "fault"
)

// Verdict is the result of one check.
type Verdict struct {
	Level Level  `json:"level"`
	Check string `json:"check"` // one word, such as buffering
	// Text is one sentence with the figures. It may contain text from the server, so a terminal
	// needs it without control characters.
	Text string `json:"text"`
	Fix  []Fix  `json:"fix,omitempty"` // alternatives, the most likely one first
}

// Fix is a line of configuration.
type Fix struct {
	Of   string `json:"of"` // presence (a flag of serve), client, token, or the name of a proxy
	Line string `json:"line"`
}

// String returns the verdict as one line.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-5s %-11s %s", v.Level, v.Check, v.Text)
	for i, m := range v.Fix {
		b.WriteString(map[bool]string{true: ". Fix: ", false: " | "}[i == 0])
		b.WriteString(m.Of + ": " + m.Line)
	}
	return b.String()
}

func pass(format string, args ...any) Verdict {
	return Verdict{Level: OK, Text: fmt.Sprintf(format, args...)}
}

func note(format string, args ...any) Verdict {
	return Verdict{Level: Note, Text: fmt.Sprintf(format, args...)}
}

func fault(format string, args ...any) Verdict {
	return Verdict{Level: Fault, Text: fmt.Sprintf(format, args...)}
}

// with returns v with these lines appended.
func (v Verdict) with(fix ...Fix) Verdict {
	v.Fix = append(v.Fix, fix...)
	return v
}

// flag returns the fix of a flag of presence serve.
func flag(format string, args ...any) Fix {
	return Fix{"presence", fmt.Sprintf(format, args...)}
}
