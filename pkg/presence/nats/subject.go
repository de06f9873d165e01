package nats

import (
	"strings"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

// The last tokens of the subjects of a topic.
const (
	kindMessage = "msg"
	kindEntry   = "log" // followed by the epoch
)

func isPlain(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '_' || b == '-'
}

const hexDigits = "0123456789ABCDEF"

// token returns s as one token of a subject, and as a key of a bucket. Different strings have
// different tokens.
func token(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

// untoken is the inverse of token. ok is false if no string has this token.
func untoken(t string) (s string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case isPlain(c):
			b.WriteByte(c)
		case c == '=' && i+2 < len(t):
			high, low := strings.IndexByte(hexDigits, t[i+1]), strings.IndexByte(hexDigits, t[i+2])
			if high < 0 || low < 0 || isPlain(byte(high<<4|low)) {
				return "", false
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		default:
			return "", false
		}
	}
	return b.String(), true
}

// subjects builds the subjects that begin with a prefix.
type subjects struct{ prefix string }

// ask returns the subject of the requests to a topic. It is not one of the subjects of the topic: a
// node that opens a room receives its messages before it can answer for it.
func (s subjects) ask(name room.Name) string {
	if name == backplane.Nodes {
		return s.prefix + ".ask.nodes"
	}
	return s.prefix + ".ask.room." + token(string(name))
}

// topic returns the subject of a topic without its last tokens. It ends with a dot.
func (s subjects) topic(name room.Name) string {
	if name == backplane.Nodes {
		return s.prefix + ".nodes."
	}
	return s.prefix + ".room." + token(string(name)) + "."
}

// log returns the subject of a room's entries in the stream.
func (s subjects) log(epoch string, name room.Name) string {
	return s.prefix + ".log." + epoch + "." + token(string(name))
}

// logs returns the subjects of the stream.
func (s subjects) logs(epoch string) string { return s.prefix + ".log." + epoch + ".*" }

// republished returns the source and the destination of the entries that the server republishes.
func (s subjects) republished() (source, destination string) {
	return s.prefix + ".log.*.*", s.prefix + ".room.{{wildcard(2)}}." + kindEntry + ".{{wildcard(1)}}"
}

// rows returns the subjects of the changes of the bucket, without the key.
func (s subjects) rows() string { return s.prefix + ".table." }

// inboxes returns the subjects of replies. A node replies to no other subject: its answer could
// otherwise be published to a subject that the asking client may not use.
func (s subjects) inboxes() string { return s.inbox() + "." }

func (s subjects) inbox() string { return s.prefix + ".inbox" }

func (s subjects) stream() string { return s.prefix }
func (s subjects) bucket() string { return s.prefix + "_table" }

// kindOf returns the last tokens of a subject of a topic: its kind, and the epoch of an entry. Both
// are empty for a request, whose subject is another one.
func kindOf(subject, topic string) (kind, epoch string) {
	rest, ok := strings.CutPrefix(subject, topic)
	if !ok {
		return "", ""
	}
	kind, epoch, _ = strings.Cut(rest, ".")
	return kind, epoch
}
