package stream

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxNotSent bounds what the kernel holds of a connection beyond what is on
// its way, in bytes: TCP_NOTSENT_LOWAT, tcp(7). What is on its way is bounded
// by what the client takes, which is nothing once it has stopped reading.
const maxNotSent = 64 << 10

// tune sets the options of a client's socket.
//
// TCP_USER_TIMEOUT, tcp(7), which it may have from the listener, is taken off: it
// has the kernel give up a peer that has not acknowledged for so long, but also
// one that takes something now and then, each time less than the kernel has
// ready to be sent in one piece (Linux 6.18). Who acknowledges nothing is found
// by its pulse. Multipath TCP does not have the option.
func tune(fd int) {
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// feel asks the kernel for the pulse of a socket's peer (TCP_INFO, SIOCOUTQ).
func feel(fd int) (p pulse) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return p
	}
	queued, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return p
	}
	return pulse{
		acked:   info.Bytes_acked,
		written: info.Bytes_acked + uint64(queued),
		silent:  time.Duration(info.Last_ack_recv) * time.Millisecond,
		sent:    time.Duration(info.Last_data_sent) * time.Millisecond,
		probes:  int(info.Probes),
		rtt:     time.Duration(info.Rtt) * time.Microsecond,
	}
}

func (h *http1) tune() { h.control(tune) }

func (h *http1) feel() (p pulse) {
	h.control(func(fd int) { p = feel(fd) })
	return p
}

// control calls f with the socket's descriptor, if there is one below.
func (h *http1) control(f func(fd int)) {
	if c, ok := h.below().(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
