package stream

import (
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

const (
	// heartbeatParts is the number of parts of a heartbeat interval. The pings of all connections
	// are spread over these parts.
	heartbeatParts = 16
	// answerParts is the number of parts within which a client must acknowledge a ping. Together
	// with the heartbeat before the ping, this is less than two heartbeats. The remaining parts are
	// for the observations that follow.
	answerParts = 12
	// maxAckDelay is the longest time that a client may intentionally delay an acknowledgement (RFC
	// 9293 section 3.8.6.3).
	maxAckDelay = 500 * time.Millisecond

	// maxBacklog times MaxUnsent is the hard limit for the shared events in a backlog. It applies
	// even to a client that reads all the time. It can be high, because all connections share the
	// memory of these events.
	maxBacklog = 16
	// piece is the number of bytes that a client must read within Config.slowTime while its backlog
	// exceeds MaxUnsent. It is also the maximum size of a single write by a writer.
	piece = 32 << 10
	// smallPiece is the maximum size of a write where the acknowledgements of the client are not
	// known. There, only whole writes show its progress.
	smallPiece = 8 << 10
)

// pace decides whether a client is a slow consumer or has vanished (promises 4 and 5 of package
// presence). TestPace tests these rules. The times are the defaults:
//
//	condition                       the client must                           or it ends with
//	backlog ≤ MaxUnsent, or a       read a byte in progressTime (15 s)        Slow (a)
//	  replay (load.private)
//	backlog > MaxUnsent             read 32 KiB in slowTime (1 s)             Slow (a)
//	backlog > 16 × MaxUnsent        (ends immediately)                        Slow (a)
//	goodbye queued (ending)         read all in goodbyeTime (2 s), or in      the goodbye's reason
//	                                  slowTime if it is Slow
//	data in the kernel, and no      acknowledge a byte in stallTime (15 s,    Slow (a)
//	  goodbye queued                  at least a heartbeat)
//	data in the kernel, and the     acknowledge a byte in answerTime (12/16   Timeout
//	  client is lost (b)              of a heartbeat, at least 500 ms)
//
//	(a) Timeout if the client has been lost (b) for slowTime; see tooSlow
//	(b) data was sent without an acknowledgement; see socket.Liveness.Lost
//
// Over a Unix socket, a client acknowledges data by reading it, in pieces of up to 16 KiB. It is
// never lost: if it freezes, stallTime applies.
//
// The rules about the backlog and about the goodbye share one deadline. These methods change it:
//
//	blocked    moves it later if the client has read enough since it was set (a byte, or 32 KiB
//	           if load.exceeded); otherwise, moves it only earlier
//	begin      is like blocked, but sets a new deadline if the old one passed between two writes
//	queued     moves it only earlier
//	observe    moves it later if the client has acknowledged something and not load.exceeded
//	wroteAll   removes it
//	end        sets it for the goodbye; after that, no other method moves it
//
// A client with a backlog is stalled if it has not taken 32 KiB in stalledTime (15 s). That alone
// does not disconnect it: it goes first when memory runs out (promise 9). See [Held].
//
// A pace has no socket, no lock and no clock. Its caller passes the time since any fixed start, the
// state of the backlog, and the kernel's TCP statistics. Where the statistics are not available
// (HTTP/2, systems other than Linux), the rules about acknowledgements do not apply.
type pace struct {
	acked        uint64        // Liveness.Acked at the last observation
	unackedSince time.Duration // when the client last made progress; 0: it had nothing to acknowledge at the last observation
	*debt                      // nil while a direct connection has no backlog; its owner sets it
}

// debt is the part of a pace about a backlog or a goodbye. Most connections have neither, most of
// the time.
type debt struct {
	deadline time.Duration // for the backlog or the goodbye; 0: none
	written  uint64        // bytes written
	took     uint64        // progressed at tookAt
	tookAt   time.Duration // when the backlog began, or the client has taken a piece since the last tookAt; 0: no backlog
	accepted int32         // bytes written since the deadline was set; at most a piece
	ending   bool          // the deadline is for the goodbye
	stalled  bool          // the client has not taken a piece in stalledTime
}

// answerTime returns the time without an acknowledgement after which a lost client is disconnected.
func (c *Config) answerTime() time.Duration {
	return max(c.Heartbeat*answerParts/heartbeatParts, maxAckDelay)
}

// stallTime returns the time within which a client must acknowledge some of the data that the
// kernel holds for it. No other deadline applies to this data. It is at least a heartbeat, because
// the data may be observed only once per heartbeat.
func (c *Config) stallTime() time.Duration { return max(c.progressTime, c.Heartbeat) }

// tooSlow returns the reason to disconnect a client that has not read enough. The reason is Timeout
// if the kernel sent data without an acknowledgement, else Slow.
func (c *Config) tooSlow(p socket.Liveness) End {
	if p.Lost(c.slowTime) {
		return Timeout
	}
	return Slow
}

// load describes the backlog of a client. pace uses it to set the deadline.
type load struct {
	unsent  int  // bytes of shared events; excludes replays and snapshots
	private bool // the client is currently reading private events, such as a replay
}

// exceeded reports whether the backlog exceeds MaxUnsent, so that the client must read a piece
// within Config.slowTime.
func (l load) exceeded(c *Config) bool { return l.unsent > c.MaxUnsent && !l.private }

// within returns the time in which the client must read a byte, or a piece if the backlog exceeds
// MaxUnsent.
func (l load) within(c *Config) time.Duration {
	if l.exceeded(c) {
		return c.slowTime
	}
	return c.progressTime
}

// wrote records that the socket accepted n bytes.
func (p *pace) wrote(n int) {
	p.accepted = int32(min(int(p.accepted)+n, piece))
	p.written += uint64(n)
}

// wroteAll records that the backlog is empty.
func (p *pace) wroteAll() {
	p.tookAt, p.stalled = 0, false
	if !p.ending {
		p.deadline, p.accepted = 0, 0
	}
}

// progressed returns a number of bytes that grows as the client takes them: those that it has
// acknowledged, or, where that is not known, those that were written.
func (p *pace) progressed() uint64 {
	if p.acked > 0 {
		return p.acked
	}
	return p.written
}

// progress updates stalled, if there is a backlog.
func (p *pace) progress(c *Config, now time.Duration) {
	if p.debt == nil || p.tookAt == 0 {
		return
	}
	p.took = min(p.took, p.progressed()) // the first observation may replace written by a smaller acked
	enough := uint64(piece)
	if p.acked == 0 {
		enough -= smallPiece // a part of the next write may be on its way
	}
	if p.progressed()-p.took >= enough {
		p.took, p.tookAt = p.progressed(), now
	}
	// Acknowledgements are read once per part of a heartbeat, and come in steps.
	p.stalled = now-p.tookAt >= c.stalledTime+2*min(c.Heartbeat/heartbeatParts, c.stalledTime/15)
}

// blocked sets the deadline of a client whose socket is full. It moves the deadline later if the
// client has read enough since the deadline was set: a byte, or a piece if the backlog exceeds
// MaxUnsent.
func (p *pace) blocked(c *Config, now time.Duration, l load) {
	if p.tookAt == 0 {
		p.took, p.tookAt = p.progressed(), max(1, now)
	}
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

// begin is like blocked, but for a write that may block. If the deadline passed between two writes,
// begin sets a new one, because the client did not delay the second write.
func (p *pace) begin(c *Config, now time.Duration, l load) {
	if p.late(now) && !p.ending {
		p.deadline = 0
	}
	p.blocked(c, now, l)
}

// queued records that shared events were added to the backlog. It returns false if the backlog is
// above its hard limit, so that the client is a slow consumer.
func (p *pace) queued(c *Config, now time.Duration, l load) bool {
	if !p.ending {
		p.deadline = min(p.deadline, now+l.within(c))
	}
	return l.unsent <= maxBacklog*c.MaxUnsent
}

// observe evaluates the TCP statistics of the client's socket. It returns the reason to disconnect
// the client:
//
//	Timeout   the client has vanished
//	Slow      the client acknowledges none of the data that the kernel holds for it; Timeout if
//	            tooSlow finds it lost
//	""        none: the client stays connected
//
// An acknowledgement moves the deadline later, unless the backlog exceeds MaxUnsent. It must count
// as progress, because the socket accepts more data only when it has much free space.
func (p *pace) observe(c *Config, now time.Duration, liveness socket.Liveness, l load) End {
	moved := liveness.Acked > p.acked
	p.acked = liveness.Acked
	p.progress(c, now)
	ending := p.debt != nil && p.ending
	if moved && p.debt != nil && !ending && p.deadline > 0 && !l.exceeded(c) {
		p.deadline, p.accepted = now+c.progressTime, 0
	}
	switch {
	case liveness.Queued() <= 0:
		p.unackedSince = 0
		return ""
	case moved || p.unackedSince == 0:
		p.unackedSince = max(1, now)
		return ""
	}
	silent := now - p.unackedSince
	switch {
	case silent >= c.answerTime() && liveness.Lost(c.answerTime()):
		return Timeout
	case silent >= c.stallTime() && !ending:
		return c.tooSlow(liveness)
	}
	return ""
}

// late reports whether the deadline has passed.
func (p *pace) late(now time.Duration) bool { return p.deadline > 0 && now >= p.deadline }

// end sets the deadline for the goodbye. Afterwards only another call of end changes it.
func (p *pace) end(now, within time.Duration) { p.deadline, p.ending = now+within, true }
