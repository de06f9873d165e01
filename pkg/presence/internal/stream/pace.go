package stream

import (
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// heartbeatParts is the number of parts of a heartbeat. The pings are spread over them.
	heartbeatParts = 16
	// answerParts is the number of parts in which a client must acknowledge a ping. Together with
	// the heartbeat before the ping this is less than two heartbeats. The remaining parts are for
	// the observations that follow.
	answerParts = 12
	// maxAckDelay is the longest time for which a client may delay an acknowledgement intentionally
	// (RFC 9293 section 3.8.6.3).
	maxAckDelay = 500 * time.Millisecond

	// maxBacklog times MaxUnsent is the hard limit of the shared events in a backlog. It applies
	// even to a client that reads all the time. All connections share the memory of these events.
	maxBacklog = 16
	// piece is the number of bytes that a client must read in Config.slowTime while its backlog
	// exceeds MaxUnsent. It is also the maximum size of one write by a writer.
	piece = 32 << 10
)

// pace decides whether a client is a slow consumer, or has vanished (promises 4 and 5 of the
// contract). TestPace tests these rules; the times are the defaults:
//
//	condition                       the client must                           or it ends with
//	backlog ≤ MaxUnsent, or a       read a byte in progressTime (15 s)        Slow (a)
//	  replay (load.private)
//	backlog > MaxUnsent             read 32 KiB in slowTime (1 s)             Slow (a)
//	backlog > 16 × MaxUnsent                                                  Slow (a), at once
//	goodbye queued (ending)         read all in goodbyeTime (2 s), or in      the goodbye's reason
//	                                  slowTime if it is Slow
//	data in the kernel, and no      acknowledge a byte in stallTime (15 s,    Slow (a)
//	  goodbye queued                  at least a heartbeat)
//	data in the kernel, sent in     acknowledge a byte in answerTime (12/16   Timeout
//	  vain (b)                        of a heartbeat, at least 500 ms)
//
//	(a) Timeout if the kernel sent data in vain for slowTime; see tooSlow
//	(b) see socket.Liveness.Lost
//
// The rules about the backlog and about the goodbye share one deadline. These methods move it:
//
//	blocked    later, if the client has read enough since it was set (a byte, or 32 KiB if
//	           load.exceeded); else only earlier
//	begin      as blocked, but sets it anew if it passed between two writes
//	queued     only earlier
//	observe    later, if the client has acknowledged something and not load.exceeded
//	wroteAll   removed
//	end        set for the goodbye; it does not move again
//
// A pace holds figures only: no socket, no lock, no clock. Its caller provides the time since any
// fixed start, the state of the backlog, and the kernel's figures for the socket. Over HTTP/2 the
// kernel's figures are not available: the rules about acknowledgements do not apply.
type pace struct {
	acked    uint64        // Liveness.Acked at the last observation
	ackedAt  time.Duration // when the client last acknowledged something, or had nothing to
	deadline time.Duration // for the backlog or the goodbye; 0: none
	accepted int32         // bytes accepted since the deadline was set; at most a piece
	unacked  bool          // at the last observation it had something to acknowledge
	ending   bool          // the deadline is the one of the goodbye
}

// answerTime is the time in which a client must acknowledge something.
func (c *Config) answerTime() time.Duration {
	return max(c.Heartbeat*answerParts/heartbeatParts, maxAckDelay)
}

// stallTime is the time in which a client must acknowledge some of the data that the kernel holds
// for it. No other deadline applies to such data. It is observed once per heartbeat.
func (c *Config) stallTime() time.Duration { return max(c.progressTime, c.Heartbeat) }

// tooSlow returns the reason to end a client that has not read enough: Timeout if the kernel sent
// data again in vain, else Slow.
func (c *Config) tooSlow(p socket.Liveness) End {
	if p.Lost(c.slowTime) {
		return Timeout
	}
	return Slow
}

// load is the state of a backlog.
type load struct {
	unsent  int  // bytes of shared events; replays and snapshots are not counted
	private bool // the client is reading private events now, such as a replay
}

// exceeded reports whether the client must read a piece in Config.slowTime.
func (l load) exceeded(c *Config) bool { return l.unsent > c.MaxUnsent && !l.private }

// within returns the time in which the client must read a byte, or a piece.
func (l load) within(c *Config) time.Duration {
	if l.exceeded(c) {
		return c.slowTime
	}
	return c.progressTime
}

// wrote records that the socket accepted n bytes.
func (p *pace) wrote(n int) { p.accepted = int32(min(int(p.accepted)+n, piece)) }

// wroteAll records that the backlog is empty.
func (p *pace) wroteAll() {
	if !p.ending {
		p.deadline, p.accepted = 0, 0
	}
}

// blocked sets the deadline of a client whose socket is full. The deadline moves later if the
// client has read enough since it was set: a byte, or a piece if the backlog exceeds MaxUnsent.
func (p *pace) blocked(c *Config, now time.Duration, l load) {
	if p.ending {
		return
	}
	enough := p.accepted > 0
	if l.exceeded(c) {
		enough = p.accepted >= piece
	}
	if enough || p.deadline == 0 {
		p.deadline, p.accepted = now+l.within(c), 0
	} else {
		p.deadline = min(p.deadline, now+l.within(c))
	}
}

// begin is blocked for a write that may block. It sets a deadline anew that passed between two
// writes, because the client did not delay the second one.
func (p *pace) begin(c *Config, now time.Duration, l load) {
	if p.late(now) && !p.ending {
		p.deadline = 0
	}
	p.blocked(c, now, l)
}

// queued records that shared events were added to the backlog. It reports false if the backlog is
// above its hard limit: the client is a slow consumer.
func (p *pace) queued(c *Config, now time.Duration, l load) bool {
	if !p.ending {
		p.deadline = min(p.deadline, now+l.within(c))
	}
	return l.unsent <= maxBacklog*c.MaxUnsent
}

// observe evaluates the kernel's figures for the client's socket:
//
//	Timeout   the client has vanished
//	Slow      it acknowledges none of the data that the kernel holds for it
//	""        any other client
//
// An acknowledgement moves the deadline, unless the backlog exceeds MaxUnsent. It must count,
// because the socket accepts more data only when it has much free space.
func (p *pace) observe(c *Config, now time.Duration, liveness socket.Liveness, l load) End {
	moved, wasUnacked := liveness.Acked > p.acked, p.unacked
	p.acked, p.unacked = liveness.Acked, liveness.Queued() > 0
	if moved && !p.ending && p.deadline > 0 && !l.exceeded(c) {
		p.deadline, p.accepted = now+c.progressTime, 0
	}
	if moved || !wasUnacked || !p.unacked {
		p.ackedAt = now
		return ""
	}
	silent := now - p.ackedAt
	switch {
	case silent >= c.answerTime() && liveness.Lost(c.answerTime()):
		return Timeout
	case silent >= c.stallTime() && !p.ending:
		return c.tooSlow(liveness)
	}
	return ""
}

// late reports whether the deadline has passed.
func (p *pace) late(now time.Duration) bool { return p.deadline > 0 && now >= p.deadline }

// end sets the deadline of the goodbye. No call moves it later or earlier.
func (p *pace) end(now, within time.Duration) { p.deadline, p.ending = now+within, true }
