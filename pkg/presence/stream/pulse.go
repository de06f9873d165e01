package stream

import (
	"errors"
	"syscall"
	"time"
)

// pulse is what the kernel knows of a socket's peer. Without a peer whose pulse
// can be felt, as on other systems than Linux, it is zero.
type pulse struct {
	acked   uint64        // bytes that the peer has acknowledged
	written uint64        // and those that were given to the kernel
	silent  time.Duration // since it last acknowledged anything
	sent    time.Duration // since something was sent last, again or for the first time
	probes  int           // how often in a row it has not answered whether it has room
	rtt     time.Duration
}

// lost reports whether the peer has been silent for so long though something
// was sent to it meanwhile, which it has had the time to answer. A peer that
// has no room for more still answers whatever it is sent, but the kernel asks
// it ever more rarely; a kernel passes over one question in a row at most, so as
// not to answer too often. Whether anything is in flight says nothing: what this
// machine's own routes or rules refuse to send never is.
func (p pulse) lost(after time.Duration) bool {
	unanswered := p.silent > p.sent && p.sent > 2*p.rtt+20*time.Millisecond || p.probes > 1
	return p.written > p.acked && p.silent >= after && unanswered
}

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
func (c Config) tooSlow(p pulse) End {
	if p.lost(c.Hurry) {
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
