package socket

import "time"

// Pulse is the kernel's figures for a socket and its peer. The zero Pulse means unknown: a system
// other than Linux, or not a TCP socket.
type Pulse struct {
	Acked   uint64        // bytes that the peer has acknowledged
	Written uint64        // bytes given to the kernel, including those acknowledged
	Silent  time.Duration // since the peer last acknowledged anything
	Sent    time.Duration // since data was last sent or retransmitted
	Probes  int           // unanswered zero-window probes in a row
	RTT     time.Duration
	Next    time.Duration // until the kernel's next attempt, at most
}

// Queued returns the bytes that the peer has not acknowledged yet.
func (p Pulse) Queued() uint64 { return p.Written - p.Acked }

// Lost reports whether the peer has acknowledged nothing for that long, although data was sent
// since, and it had the time to answer. A peer without buffer space still answers all data and
// probes, but the kernel probes it ever more rarely; a peer may leave one probe in a row
// unanswered, to limit its rate of acknowledgements. Whether data is in flight does not matter: a
// packet that this machine's own routes or firewall refuse never is.
func (p Pulse) Lost(after time.Duration) bool {
	unanswered := p.Silent > p.Sent && p.Sent > 2*p.RTT+20*time.Millisecond || p.Probes > 1
	return p.Written > p.Acked && p.Silent >= after && unanswered
}
