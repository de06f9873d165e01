package stream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxNotSent bounds what the kernel holds of a connection beyond what is on
// its way, in bytes: TCP_NOTSENT_LOWAT, tcp(7). What is on its way is bounded
// by what the client takes, which is nothing once it has stopped reading.
const maxNotSent = 64 << 10

// unacked is how long what was sent may go without an answer from the peer's
// kernel, or without room in it: TCP_USER_TIMEOUT, tcp(7). A peer that has gone
// without a word answers no ping, so it is out within two heartbeats.
func unacked(heartbeat time.Duration) time.Duration {
	return max(heartbeat-3*time.Second, heartbeat/2, time.Second)
}

func tune(fd int, heartbeat time.Duration) {
	// Neither can fail on a TCP socket, and on another there is nothing to be had.
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacked(heartbeat).Milliseconds()))
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// answers reports whether the peer acknowledged something within the last
// three quarters of [unacked]: a peer that takes nothing answers the probes of
// its window, one that has vanished does not.
func answers(fd int) bool {
	limit, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	if err != nil {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && int(info.Last_ack_recv) < limit*3/4 // milliseconds, both
}

func (h *http1) tune(heartbeat time.Duration) { h.control(func(fd int) { tune(fd, heartbeat) }) }

func (h *http1) answers() (yes bool) {
	h.control(func(fd int) { yes = answers(fd) })
	return yes
}

// control calls f with the socket's descriptor, if there is one below.
func (h *http1) control(f func(fd int)) {
	conn := h.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // as crypto/tls has it
		conn = t.NetConn()
	}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
