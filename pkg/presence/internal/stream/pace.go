package stream

import (
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// heartbeatParts is the number of parts of a heartbeat, over which pings are spread.
	heartbeatParts = 16
	// answerParts is the number of parts in which a client must acknowledge a ping. With the
	// heartbeat before the ping that is within two heartbeats; the parts left are for the
	// observations that follow.
	answerParts = 12
	// maxAckDelay is the longest time for which a client may delay an acknowledgement on purpose
	// (RFC 9293 section 3.8.6.3).
	maxAckDelay = 500 * time.Millisecond

	// maxBacklog times MaxUnsent is the limit of the shared events in a backlog, for a client that
	// takes something all the time as well. All connections share the memory of these events.
	maxBacklog = 16
	// piece is the number of bytes that a client must take in Config.slowTime when its backlog
	// exceeds MaxUnsent. A writer writes at most as much at once.
	piece = 32 << 10
)

// pace decides whether a client is a slow consumer, or has vanished (promises 4 and 5 of the
// contract). It holds figures only: no socket, no lock, no clock. Its caller provides the time, as
// the time since any fixed start, the state of the backlog, and the kernel's figures for the
// socket.
//
// A client that the kernel's figures are not available for (HTTP/2) is not observed: the rules
// about its backlog apply, those about acknowledgements do not.
type pace struct {
	acked    uint64        // Pulse.Acked when it was last observed
	ackedAt  time.Duration // when the client last acknowledged something, or had nothing to acknowledge
	deadline time.Duration // for the backlog, or for the goodbye; 0 if there is none
	taken    int32         // bytes that the socket took since the deadline was set; at most a piece
	owes     bool          // the client had something to acknowledge when it was last observed
	ending   bool          // the deadline is that of the goodbye, and does not move
}

// answerTime is the time in which a client must acknowledge something.
func (c *Config) answerTime() time.Duration {
	return max(c.Heartbeat*answerParts/heartbeatParts, maxAckDelay)
}

// stallTime is the time in which a client must take something of what the kernel holds for it. Such
// data has no other deadline. It is observed once per heartbeat.
func (c *Config) stallTime() time.Duration { return max(c.progressTime, c.Heartbeat) }

// tooSlow returns the reason for the end of a client that has not taken enough.
func (c *Config) tooSlow(p socket.Pulse) End {
	if p.Lost(c.slowTime) {
		return Timeout
	}
	return Slow
}

// load is the state of a backlog.
type load struct {
	unsent  int  // bytes of shared events; replays and snapshots are not counted
	private bool // the client takes events for itself alone now, such as a replay
}

// exceeded reports whether the client must take a piece in Config.slowTime.
func (l load) exceeded(c *Config) bool { return l.unsent > c.MaxUnsent && !l.private }

// within returns the time in which the client must take something, or a piece.
func (l load) within(c *Config) time.Duration {
	if l.exceeded(c) {
		return c.slowTime
	}
	return c.progressTime
}

// wrote records that the socket took n bytes.
func (p *pace) wrote(n int) { p.taken = int32(min(int(p.taken)+n, piece)) }

// wroteAll records that the backlog is empty.
func (p *pace) wroteAll() {
	if !p.ending {
		p.deadline, p.taken = 0, 0
	}
}

// blocked sets the deadline of a client whose socket takes no more for now. The deadline moves when
// the client has taken enough since it was set: anything at all, or a piece when it must hurry.
func (p *pace) blocked(c *Config, now time.Duration, l load) {
	if p.ending {
		return
	}
	enough := p.taken > 0
	if l.exceeded(c) {
		enough = p.taken >= piece
	}
	if enough || p.deadline == 0 {
		p.deadline, p.taken = now+l.within(c), 0
	} else {
		p.deadline = min(p.deadline, now+l.within(c))
	}
}

// begin is blocked for a write that may block. A deadline that has passed between two writes is set
// anew, as it was not the client that delayed the second one.
func (p *pace) begin(c *Config, now time.Duration, l load) {
	if p.late(now) && !p.ending {
		p.deadline = 0
	}
	p.blocked(c, now, l)
}

// queued takes note of shared events that were added to the backlog. It reports false when the
// backlog is at its limit: the client is a slow consumer.
func (p *pace) queued(c *Config, now time.Duration, l load) bool {
	if !p.ending {
		p.deadline = min(p.deadline, now+l.within(c))
	}
	return l.unsent <= maxBacklog*c.MaxUnsent
}

// observe judges a client by the kernel's figures for its socket. It returns [Timeout] for a client
// that has vanished, [Slow] for one that acknowledges nothing of what the kernel holds for it, and
// "" for any other.
//
// What it acknowledged moves the deadline, unless it must hurry: the socket takes more only when it
// has space for much.
func (p *pace) observe(c *Config, now time.Duration, pulse socket.Pulse, l load) End {
	moved, owed := pulse.Acked > p.acked, p.owes
	p.acked, p.owes = pulse.Acked, pulse.Queued() > 0
	if moved && !p.ending && p.deadline > 0 && !l.exceeded(c) {
		p.deadline, p.taken = now+c.progressTime, 0
	}
	if moved || !owed || !p.owes {
		p.ackedAt = now
		return ""
	}
	silent := now - p.ackedAt
	switch {
	case silent >= c.answerTime() && pulse.Lost(c.answerTime()):
		return Timeout
	case silent >= c.stallTime() && !p.ending:
		return c.tooSlow(pulse)
	}
	return ""
}

// late reports whether the deadline has passed.
func (p *pace) late(now time.Duration) bool { return p.deadline > 0 && now >= p.deadline }

// end sets the deadline of the goodbye, the last one.
func (p *pace) end(now, within time.Duration) { p.deadline, p.ending = now+within, true }
