package stream

import (
	"errors"
	"syscall"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// heartbeatParts: a heartbeat's pings go out in parts, so that they are no
	// burst.
	heartbeatParts = 16
	// answerParts is the time that a peer has to acknowledge a ping. With the
	// heartbeat until the ping it is out within two; the parts that are left are for
	// looking again.
	answerParts = 12
	// delay is more than any peer delays an acknowledgement on purpose
	// (RFC 9293 section 3.8.6.3: half a second at most).
	delay = 500 * time.Millisecond
)

// patience is for how long a peer may be silent.
func (c Config) patience() time.Duration {
	return max(c.Heartbeat*answerParts/heartbeatParts, delay)
}

// pause is for how long a client may acknowledge nothing of what the kernel has
// for it: what waits in the kernel alone has no other deadline. That is looked
// at once a heartbeat.
func (c Config) pause() time.Duration { return max(c.Progress, c.Heartbeat) }

// tooSlow says what to call the end of a client that has not taken enough.
func (c Config) tooSlow(p socket.Pulse) End {
	if p.Lost(c.Hurry) {
		return Timeout
	}
	return Slow
}

// cause says which end an error of a socket is. The kernel gives up a peer that
// has vanished.
func cause(err error) End {
	for _, silent := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, silent) {
			return Timeout
		}
	}
	return Closed
}
