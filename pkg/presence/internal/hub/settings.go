package hub

import (
	"strings"
	"time"
	"unicode"

	"example.com/presence/pkg/presence/internal/input"
)

// Setting is a setting of a node that all nodes should have in common. Nodes compare the text of
// its value.
type Setting struct{ Name, Value string }

const (
	maxLabel   = 64  // characters of the label of a node
	maxSetting = 256 // bytes of the value of a setting that is logged
	// twinTime is how long two nodes must have had the same label until it is logged. A node that
	// was restarted has the label of its old process, which may still shut down.
	twinTime = 10 * time.Second
	// maxReports is the maximum number of log lines of a budget per reportTime. There is a limit
	// because a peer could send any number of node ids.
	maxReports = 256
	reportTime = time.Hour
)

// budget limits the log lines that peers cause. The caller guards it.
type budget struct {
	lines int // since
	since time.Time
}

// take counts a line, and reports whether it may be logged.
func (b *budget) take(now time.Time) bool {
	if now.Sub(b.since) >= reportTime {
		b.lines, b.since = 0, now
	}
	b.lines++
	return b.lines <= maxReports
}

// IsLabel reports whether a text can be the label of a node: 1 to 64 printable characters without
// blanks.
func IsLabel(s string) bool {
	return s != "" && input.Chars(s, maxLabel) && input.Exact(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// difference is a setting that differs between this node and another one.
type difference struct {
	Setting        // of this node
	other   string // value of the other node
}

// meeting records the label and the settings in the heartbeats of a peer.
type meeting struct {
	label  string
	since  time.Time // start of the lease, at the first heartbeat; zero: no lease
	told   []string  // names of the settings whose difference was reported
	isTwin bool      // it was reported that the peer has the label of this node
}
