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

// Goodbye returns the event that the server sends before it ends a connection. It contains the
// reason.
func Goodbye(why End) Event {
	return Event{Name: "goodbye", Data: []byte(`{"reason":"` + string(why) + `"}`)}
}

// endOf returns the reason for the end after a socket error. For a vanished client, the kernel
// returns one of three errors.
func endOf(err error) End {
	for _, vanished := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, vanished) {
			return Timeout
		}
	}
	return Closed
}
