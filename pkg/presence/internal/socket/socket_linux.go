package socket

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Known reports whether this system provides the figures of a [Pulse].
const Known = true

// maxNotSent is the number of unsent bytes that the kernel buffers for a connection, in addition to
// those in flight: TCP_NOTSENT_LOWAT, tcp(7). Without it the kernel buffers up to 3.9 MB for a
// client that has stopped reading. 16 KiB would hurt slow readers.
const maxNotSent = 64 << 10

// closed is TCP_CLOSE in the kernel's tcp_states.h.
const closed = 7

// Tune limits the kernel's send buffer of a socket, and turns off the kernel's own timeout.
// Accepted sockets inherit both from their listener.
//
// The kernel's timeout is TCP_USER_TIMEOUT, tcp(7). It ends the connection of a peer that
// acknowledged nothing for that time. It also ends the connection of a slow peer that reads a
// little at a time. This happens if each read is less than the kernel wants to send in one piece
// (Linux 6.18). So callers detect a vanished peer by its [Pulse] instead.
func Tune(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxNotSent)
}

// ReadPulse returns the figures for the socket (TCP_INFO, SIOCOUTQ).
func ReadPulse(fd uintptr) (p Pulse) {
	// unix.GetsockoptTCPInfo allocates. ReadPulse runs several times per connection and heartbeat.
	// Nothing else allocates while a server is quiet.
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
	if info.State == closed { // by a reset: queued data is never sent
		queued = 0
	}
	next := time.Duration(info.Rto) * time.Microsecond // includes the backoff of retransmissions
	if info.Unacked == 0 {
		next <<= min(info.Backoff, 10) // but not the backoff of zero-window probes
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

// ShutUnread sends the end of the stream, unless there is unread data from the peer. It reports
// whether it did.
func ShutUnread(fd uintptr) bool {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err != nil || n > 0 {
		return false
	}
	return unix.Shutdown(int(fd), unix.SHUT_WR) == nil
}

// shut sends the end of the stream after queued data. The kernel then frees the socket after the
// time delivery without an acknowledgement, or after the time fin without the end from the peer.
// shut reads received data first. Unread data would turn the end into a reset, and the peer could
// lose the last bytes.
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
