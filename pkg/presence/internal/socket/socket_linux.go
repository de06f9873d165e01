package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Known reports whether this system has the figures of a [Pulse].
const Known = true

// maxNotSent is the number of bytes that the kernel buffers for a connection beyond those in
// flight: TCP_NOTSENT_LOWAT, tcp(7). Without it the kernel buffers up to 3.9 MB for a client that
// has stopped reading. 16 KiB hurts slow readers.
const maxNotSent = 64 << 10

// closed is TCP_CLOSE of the kernel's tcp_states.h.
const closed = 7

// Tune bounds the kernel's send buffer of a socket, and turns the kernel's own timeout off. Sockets
// inherit both from the listener that accepts them.
//
// TCP_USER_TIMEOUT, tcp(7), ends the connection of a peer that acknowledged nothing for so long,
// but also of one that takes a little now and then, each time less than the kernel wants to send in
// one piece (Linux 6.18). Callers detect a vanished peer by its [Pulse] instead.
func Tune(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// ReadPulse returns the figures for the socket (TCP_INFO, SIOCOUTQ).
func ReadPulse(fd uintptr) (p Pulse) {
	// unix.GetsockoptTCPInfo allocates. This runs several times per connection and heartbeat, and
	// nothing else allocates while a server is quiet.
	var info unix.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	if _, _, failed := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); failed != 0 {
		return p
	}
	queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return p
	}
	if info.State == closed { // by a reset: queued data will never be sent
		queued = 0
	}
	next := time.Duration(info.Rto) * time.Microsecond // doubled already while data is retransmitted
	if info.Unacked == 0 {
		next <<= min(info.Backoff, 10) // between zero-window probes it is not
	}
	return Pulse{
		Acked:   info.Bytes_acked,
		Written: info.Bytes_acked + uint64(queued),
		Silent:  time.Duration(info.Last_ack_recv) * time.Millisecond,
		Sent:    time.Duration(info.Last_data_sent) * time.Millisecond,
		Probes:  int(info.Probes),
		RTT:     time.Duration(info.Rtt) * time.Microsecond,
		Next:    next,
	}
}

// ShutUnread sends the end of the stream, unless there is unread data from the peer, and reports
// whether it did.
func ShutUnread(fd uintptr) bool {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err != nil || n > 0 {
		return false
	}
	return unix.Shutdown(int(fd), unix.SHUT_WR) == nil
}

// shut sends the end of the stream after queued data, and makes the kernel give the socket up after
// the time delivery without an acknowledgement, and the time fin for the peer's own end. Received
// data is read first: unread, it would turn the end into a reset, and the peer could lose the last
// bytes.
func shut(fd uintptr, delivery, fin time.Duration) {
	var discarded [4 << 10]byte
	for range 4 {
		if n, _, err := unix.Recvfrom(int(fd), discarded[:], unix.MSG_DONTWAIT); n <= 0 && err != unix.EINTR {
			break
		}
	}
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(delivery.Milliseconds()))
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_LINGER2, int(fin.Seconds()))
	unix.Shutdown(int(fd), unix.SHUT_WR)
}

// discardOnClose makes the close that follows discard queued data and reset the peer.
func discardOnClose(fd uintptr) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
