package stream

import (
	"errors"
	"syscall"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// heartbeatParts is the number of parts of a heartbeat. Pings are spread over them.
	heartbeatParts = 16
	// answerParts is the number of parts in which a client must acknowledge a ping. With the
	// heartbeat before the ping that is within two heartbeats; the parts left are for the next
	// observations.
	answerParts = 12
	// maxAckDelay is the longest time for which a client may delay an acknowledgement on purpose
	// (RFC 9293 section 3.8.6.3).
	maxAckDelay = 500 * time.Millisecond
)

// answerTime is the time in which a client must acknowledge something.
func (c *Config) answerTime() time.Duration {
	return max(c.Heartbeat*answerParts/heartbeatParts, maxAckDelay)
}

// stallTime is the time in which a client must take something of what the kernel holds for it. Such
// data has no other deadline. It is observed once per heartbeat.
func (c *Config) stallTime() time.Duration { return max(c.Progress, c.Heartbeat) }

// tooSlow returns the reason for the end of a client that has not taken enough.
func (c *Config) tooSlow(p socket.Pulse) End {
	if p.Lost(c.Hurry) {
		return Timeout
	}
	return Slow
}

// cause returns the end that a socket's error stands for. The kernel gives up a peer that has
// vanished.
func cause(err error) End {
	for _, silent := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, silent) {
			return Timeout
		}
	}
	return Closed
}
