package load

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The loops use all windows of the ports equally often.
func TestPortRanges(t *testing.T) {
	t.Parallel()
	const loops = 3
	used := map[int]int{}
	all := newPorts(0, 1)
	if all.windows == 0 {
		t.Fatal("the ports are not known")
	}
	for i := range loops {
		p := newPorts(i, loops)
		for connection := range p.windows * p.stay {
			ports := p.rangeOf(connection)
			low, high := ports&0xffff, ports>>16
			if (low-all.low)%portWindow != 0 || high != low+portWindow-1 || high >= all.low+all.windows*portWindow {
				t.Fatalf("loop %d, connection %d: got the ports %d to %d", i, connection, low, high)
			}
			used[low]++
		}
	}
	if len(used) != all.windows {
		t.Errorf("got %d windows, want %d", len(used), all.windows)
	}
	for low, n := range used {
		if want := loops * (portWindow / 2 / loops); n != want {
			t.Errorf("got %d connections from the window at port %d, want %d", n, low, want)
		}
	}
}

// If all ports of a window are in use, a connection has another port.
func TestPortsInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	family, to := sockaddr(l.Addr())
	p := newPorts(0, 1)
	p.windows = 1
	low, inside := p.rangeOf(0)&0xffff, 0
	const connections = portWindow + 50
	for i := range connections {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := p.connect(fd, to, i); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		if port := accepted.RemoteAddr().(*net.TCPAddr).Port; port >= low && port < low+portWindow {
			inside++
		}
	}
	// Other programs may use some of the ports.
	if inside < portWindow/2 || inside > portWindow {
		t.Errorf("%d of %d connections have a port of the window, want up to %d", inside, connections, portWindow)
	}
}
