package stream

import (
	"errors"
	"syscall"
)

// End is the reason why a connection ended. It must not contain a character that JSON escapes.
type End string

// The reasons that this package sets itself. The caller sets all other reasons.
const (
	Closed  End = "closed"  // the client closed the connection
	Timeout End = "timeout" // the client vanished: it no longer acknowledges anything
	Slow    End = "slow"    // the client is a slow consumer
)

// Goodbye returns the event with the reason why the server ends a connection.
func Goodbye(why End) Event {
	return Event{Name: "goodbye", Data: []byte(`{"reason":"` + string(why) + `"}`)}
}

// endOf returns the reason for an error of a socket. The kernel reports a vanished client with one
// of three errors.
func endOf(err error) End {
	for _, vanished := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, vanished) {
			return Timeout
		}
	}
	return Closed
}
