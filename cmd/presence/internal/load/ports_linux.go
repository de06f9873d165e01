package load

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ports limits the search of connect(2) for a free source port. Half of the ports that Linux takes
// first, 14,116 by default, are in use once that many clients are connected to one address. From
// then on, each connect(2) looks at all of them again: 650 µs instead of 22, on Linux 6.18. With
// IP_LOCAL_PORT_RANGE (Linux 6.3), it looks at one window of the ports. The loops take the windows
// in turn.
type ports struct {
	low     int // of the first window
	windows int // 0: the ports are not known
	first   int // window of the first connection of this loop
	stay    int // number of connections in a row from one window
}

// portWindow is the number of ports of a window.
const portWindow = 512

// newPorts returns the ports for the next of several loops.
func newPorts(next, loops int) ports {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	var low, high int
	text, err := os.ReadFile(file)
	if err == nil {
		_, err = fmt.Fscan(strings.NewReader(string(text)), &low, &high)
	}
	if err != nil {
		return ports{}
	}
	windows := (high - low + 1) / portWindow
	return ports{low, windows, next * windows / loops, max(1, portWindow/2/loops)}
}

// rangeOf returns the first and the last port for a connection of the loop, as the value of
// IP_LOCAL_PORT_RANGE: the last port is in the upper 16 bits. 0 means all ports.
func (p ports) rangeOf(connection int) int {
	if p.windows == 0 {
		return 0
	}
	low := p.low + (p.first+connection/p.stay)%p.windows*portWindow
	return (low+portWindow-1)<<16 | low
}

// connect connects a socket. If it finds no port in the window of the connection, it takes any.
func (p ports) connect(fd int, to unix.Sockaddr, connection int) error {
	ports := p.rangeOf(connection)
	if _, local := to.(*unix.SockaddrUnix); local || ports == 0 || unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, ports) != nil {
		return unix.Connect(fd, to)
	}
	err := unix.Connect(fd, to)
	if err != unix.EADDRNOTAVAIL || unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, 0) != nil {
		return err
	}
	return unix.Connect(fd, to)
}
