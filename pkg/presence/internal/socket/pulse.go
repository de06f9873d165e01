package socket

import "time"

// Pulse holds the kernel's figures for a socket and its peer. The zero Pulse means unknown: a
// system other than Linux, or not a TCP socket.
type Pulse struct {
	Acked   uint64        // bytes that the peer has acknowledged
	Written uint64        // bytes passed to the kernel, including acknowledged ones
	Silent  time.Duration // since the peer last acknowledged anything
	Sent    time.Duration // since data was last sent or retransmitted
	Probes  int           // unanswered zero-window probes in a row
	RTT     time.Duration
	Next    time.Duration // maximum time until the kernel's next attempt to send
}

// Queued returns the number of bytes that the peer has not acknowledged.
func (p Pulse) Queued() uint64 { return p.Written - p.Acked }

// Lost reports whether the peer is unreachable: there is data to acknowledge, it has acknowledged
// nothing for the time after, and one of these holds:
//
//   - Data was sent since its last acknowledgement, and it had time to respond: two round trips and
//     20 ms.
//   - It left two or more zero-window probes in a row unanswered. It may leave one unanswered, to
//     limit its rate of acknowledgements.
//
// A peer without buffer space still acknowledges all data and probes, but the kernel sends it
// probes at growing intervals. Lost does not require data in flight: a packet that this machine's
// own routes or firewall reject is never in flight.
func (p Pulse) Lost(after time.Duration) bool {
	unanswered := p.Silent > p.Sent && p.Sent > 2*p.RTT+20*time.Millisecond || p.Probes > 1
	return p.Written > p.Acked && p.Silent >= after && unanswered
}
