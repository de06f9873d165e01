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
	rtt     time.Duration
}

// lost reports whether the peer has been silent for so long though something
// was sent to it meanwhile, which it has had the time to answer. A peer that
// has no room for more still answers whatever it is sent, but the kernel asks
// it ever more rarely. Whether anything is in flight says nothing: what this
// machine's own routes or rules refuse to send never is.
func (p pulse) lost(after time.Duration) bool {
	return p.written > p.acked && p.silent >= after && p.silent > p.sent && p.sent > 2*p.rtt+20*time.Millisecond
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

// giveUp is when the kernel gives a peer up that acknowledges nothing, or has
// no room; longer than a client may pause.
func (c Config) giveUp() time.Duration { return max(c.Progress, c.Heartbeat) + time.Second }

// tooSlow says what to call the end of a client that has not taken enough.
func (c Config) tooSlow(p pulse) End {
	if p.lost(c.Hurry) {
		return Timeout
	}
	return Slow
}

// cause says which end an error of a socket is. The kernel gives up a peer that
// has vanished, and one that has no room; the latter answered its probes.
func (c Config) cause(err error, feel func() pulse) End {
	for _, silent := range []syscall.Errno{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, silent) {
			if p := feel(); p.written > 0 && p.silent < c.giveUp()*3/4 {
				return Slow
			}
			return Timeout
		}
	}
	return Closed
}
