package socket

import "time"

// Liveness holds the kernel's statistics for a socket and its peer. The zero value means unknown:
// the system is not Linux, or the socket is neither a TCP nor a Unix socket.
//
// For a Unix socket, only Acked and Written are set. Their difference is the size of the data that
// the peer has not read, and Acked grows if the peer reads faster than the server writes. A Unix
// socket needs no other statistics, because the kernel closes it when its peer ends.
type Liveness struct {
	Acked   uint64        // bytes acknowledged by the peer
	Written uint64        // bytes passed to the kernel, including the acknowledged bytes
	Silent  time.Duration // time since the peer last acknowledged anything
	Sent    time.Duration // time since data was last sent or retransmitted
	Probes  int           // consecutive unanswered zero-window probes
	RTT     time.Duration
	Next    time.Duration // maximum time until the kernel's next attempt to send
}

// Queued returns the number of bytes that the peer has not acknowledged yet.
func (l Liveness) Queued() uint64 { return l.Written - l.Acked }

// Lost reports whether the peer is unreachable: it has data to acknowledge, it has acknowledged
// nothing for the duration after, and one of these conditions holds:
//
//   - Data was sent after the peer's last acknowledgement, and the peer had time to respond: two
//     round trips plus 20 ms.
//   - The peer left at least two consecutive zero-window probes unanswered. One is not enough,
//     because a peer may skip one to limit its rate of acknowledgements.
//
// Silence alone is not enough, because a peer whose receive buffer is full is silent between two
// zero-window probes. It acknowledges all data and probes, but the kernel sends it probes at
// increasing intervals.
//
// Lost does not require data in flight, because a packet that this machine's own routes or firewall
// reject is never in flight.
func (l Liveness) Lost(after time.Duration) bool {
	unanswered := l.Silent > l.Sent && l.Sent > 2*l.RTT+20*time.Millisecond || l.Probes > 1
	return l.Written > l.Acked && l.Silent >= after && unanswered
}
