package stream

import (
	"errors"
	"syscall"
)

// End is the reason for which a connection ended. It must hold no character that JSON escapes.
type End string

// The reasons that this package finds itself; all others are the caller's.
const (
	Closed  End = "closed"  // the client closed the connection
	Timeout End = "timeout" // the client vanished: it acknowledges nothing any more
	Slow    End = "slow"    // the client is a slow consumer
)

// Goodbye returns the event that tells a client why the server ends its connection.
func Goodbye(why End) Event {
	return Event{Name: "goodbye", Data: []byte(`{"reason":"` + string(why) + `"}`)}
}

// endOf returns the reason that a socket's error stands for. The kernel reports a client that has
// vanished with one of three errors.
func endOf(err error) End {
	for _, vanished := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, vanished) {
			return Timeout
		}
	}
	return Closed
}
