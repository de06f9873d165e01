package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Known reports whether this system provides the statistics of a [Liveness].
const Known = true

// maxNotSent limits the unsent bytes in the kernel's send buffer (TCP_NOTSENT_LOWAT, tcp(7)). Bytes
// in flight do not count. Without this limit, the kernel buffers up to 3.9 MB for a client that has
// stopped reading. With 16 KiB, throughput to slow readers drops.
const maxNotSent = 64 << 10

// unixBuffer limits the send buffer of a Unix socket (SO_SNDBUF, socket(7)) to twice its value,
// including the overhead of the kernel. The kernel divides the data into pieces of at most half a
// buffer (unix_stream_sendmsg), and SIOCOUTQ counts a piece until the peer has read all of it. With
// the default of 208 KiB, a client that reads slowly would make no visible progress for long.
const unixBuffer = 16 << 10

// closed is the state TCP_CLOSE in the kernel's tcp_states.h.
const closed = 7

// Tune limits the kernel's send buffer of a socket and disables the kernel's own timeout. Accepted
// TCP sockets inherit both settings from their listener, unless it is [Multipath]. Accepted Unix
// sockets inherit nothing. A Unix socket has no timeout.
//
// The kernel's timeout is TCP_USER_TIMEOUT, tcp(7). It closes the connection of a peer that
// acknowledges nothing for that time. However, it also closes the connection of a slow peer whose
// reads are smaller than the piece that the kernel wants to send (Linux 6.18). Therefore, callers
// use [Liveness] to detect a vanished peer.
func Tune(fd uintptr) {
	if unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0) == unix.EOPNOTSUPP { // a Unix socket
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, unixBuffer)
		return
	}
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// Multipath reports whether a listener accepts Multipath TCP, as those of [net.Listen] do. Its
// sockets do not inherit the options of [Tune].
func Multipath(fd uintptr) bool {
	protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && protocol == unix.IPPROTO_MPTCP
}

// ReadLiveness returns the statistics of the socket: TCP_INFO and SIOCOUTQ for TCP, SIOCOUTQ for a
// Unix socket.
func ReadLiveness(fd uintptr) (p Liveness) {
	// Call getsockopt directly, because unix.GetsockoptTCPInfo allocates. ReadLiveness runs several
	// times per heartbeat for each connection, and would be the only allocation of an idle server.
	var info unix.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	if _, _, failed := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); failed == unix.EOPNOTSUPP {
		return readUnix(fd)
	} else if failed != 0 {
		return p
	}
	queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return p
	}
	if info.State == closed { // after a reset, queued data is never sent
		queued = 0
	}
	next := time.Duration(info.Rto) * time.Microsecond // includes the backoff of retransmissions
	if info.Unacked == 0 {
		next <<= min(info.Backoff, 10) // Rto excludes the backoff of zero-window probes
	}
	return Liveness{
		Acked:   info.Bytes_acked,
		Written: info.Bytes_acked + uint64(queued),
		Silent:  time.Duration(info.Last_ack_recv) * time.Millisecond,
		Sent:    time.Duration(info.Last_data_sent) * time.Millisecond,
		Probes:  int(info.Probes),
		RTT:     time.Duration(info.Rtt) * time.Microsecond,
		Next:    next,
	}
}

// unixWritten is the constant Written of a Unix socket. It exceeds any send buffer.
const unixWritten = 1 << 62

// readUnix returns the statistics of a Unix socket. Its kernel reports only the size of the data
// that the peer has not read, including the overhead of the kernel's buffers. Therefore, Acked
// grows if the peer has read more than was written since the last call.
func readUnix(fd uintptr) (p Liveness) {
	queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return p
	}
	return Liveness{Acked: unixWritten - uint64(queued), Written: unixWritten}
}

// ShutUnread sends a FIN, unless the socket holds unread data from the peer. It reports whether it
// sent the FIN.
func ShutUnread(fd uintptr) bool {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err != nil || n > 0 {
		return false
	}
	return unix.Shutdown(int(fd), unix.SHUT_WR) == nil
}

// shut sends a FIN after the queued data. The kernel then frees the socket if the peer acknowledges
// nothing for the time delivery, or does not send its own FIN within the time fin. shut discards
// received data first, because unread data would turn the FIN into a reset, and the peer could lose
// the last bytes.
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

// discardOnClose makes the next close discard queued data and send a reset to the peer.
func discardOnClose(fd uintptr) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
