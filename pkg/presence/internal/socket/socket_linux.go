package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Known reports whether this system has the figures of a [Pulse].
const Known = true

// maxNotSent bounds what the kernel holds of a connection beyond what is in
// flight, in bytes: TCP_NOTSENT_LOWAT, tcp(7). Without it the kernel buffers up
// to 3.9 MB for a client that has stopped reading. 16 KiB hurts slow readers.
const maxNotSent = 64 << 10

// closed is TCP_CLOSE of the kernel's tcp_states.h.
const closed = 7

// Tune bounds the kernel's send buffer of a socket, and turns the kernel's own
// timeout off. Sockets inherit both from the listener that accepts them.
//
// TCP_USER_TIMEOUT, tcp(7), ends a peer that acknowledged nothing for so long,
// but also one that takes a little now and then, each time less than the kernel
// wants to send in one piece (Linux 6.18). A vanished peer is found by its
// [Pulse] instead.
func Tune(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// Feel returns the pulse of a socket's peer (TCP_INFO, SIOCOUTQ).
func Feel(fd uintptr) (p Pulse) {
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
	if info.State == closed { // by a reset: what is queued will never go
		queued = 0
	}
	next := time.Duration(info.Rto) * time.Microsecond // doubled already while data is sent again
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

// ShutUnread sends the end of the stream, unless there is data from the peer that
// nobody has read, and reports whether it did.
func ShutUnread(fd uintptr) bool {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err != nil || n > 0 {
		return false
	}
	return unix.Shutdown(int(fd), unix.SHUT_WR) == nil
}

// shut sends the end of the stream after all that is queued, and has the kernel
// give the socket up soon: 5 s without an acknowledgement, 3 s for the peer's
// own end. What came in is read first: unread data would turn the end into a
// reset, and the peer could lose the last bytes.
func shut(fd uintptr) {
	var waste [4 << 10]byte
	for range 4 {
		if n, _, err := unix.Recvfrom(int(fd), waste[:], unix.MSG_DONTWAIT); n <= 0 && err != unix.EINTR {
			break
		}
	}
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(giveUp.Milliseconds()))
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_LINGER2, int(finWait.Seconds()))
	unix.Shutdown(int(fd), unix.SHUT_WR)
}

// cut has the close that follows discard what is queued and reset the peer.
func cut(fd uintptr) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
