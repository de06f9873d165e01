package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a TCP connection. The peer has a small receive buffer, so that fill
// returns soon.
func pair(t *testing.T) (own, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}}
	if peer, err = dialer.DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	if own, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	Of(own).Control(Tune)
	return own, peer
}

// fill writes until the kernel accepts no more data. It returns the number of bytes written.
func fill(t *testing.T, own net.Conn) (n int) {
	t.Helper()
	own.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for {
		k, err := own.Write(make([]byte, 16<<10))
		n += k
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func liveness(c net.Conn) (p Liveness) {
	Of(c).Control(func(fd uintptr) { p = ReadLiveness(fd) })
	return p
}

// waitFree waits until the kernel has no socket with these two addresses. A socket in TIME-WAIT
// (06) counts as free, because it has no buffers.
func waitFree(t *testing.T, own, peer net.Addr, within time.Duration) {
	t.Helper()
	ends := fmt.Appendf(nil, "0100007F:%04X 0100007F:%04X ", own.(*net.TCPAddr).Port, peer.(*net.TCPAddr).Port)
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(within); ; <-ticks.C {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(table, ends)
		if i < 0 || bytes.HasPrefix(table[i+len(ends):], []byte("06")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the socket is still in state %[1]s after %[2]v, want none", table[i+len(ends):i+len(ends)+2], within)
		}
	}
}

// End frees the socket within 10 s, even if the kernel's next attempt to send is later.
func TestEndFreesSocketOfStalledPeer(t *testing.T) {
	t.Parallel()
	own, peer := pair(t)
	fill(t, own)
	later := 11 * time.Second
	if testing.Short() { // the time between two attempts doubles
		later = 5 * time.Second
	}
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for start := time.Now(); liveness(own).Next < later; <-ticks.C {
		if time.Since(start) > time.Minute {
			t.Fatalf("after a minute the next attempt is in %v, want %v or more", liveness(own).Next, later)
		}
	}
	var ender Ender
	ender.End(Of(own))
	waitFree(t, own.LocalAddr(), peer.LocalAddr(), 10*time.Second)
	ender.Close()
}

func TestEndDeliversQueuedData(t *testing.T) {
	t.Parallel()
	own, peer := pair(t)
	written := fill(t, own)
	var ender Ender
	ender.End(Of(own))
	got, err := io.ReadAll(peer)
	if err != nil || len(got) != written {
		t.Errorf("got %d bytes, error %v, want %d bytes", len(got), err, written)
	}
	waitFree(t, own.LocalAddr(), peer.LocalAddr(), 10*time.Second) // without a FIN from the peer
	ender.Close()
}

func TestResetDiscardsQueuedData(t *testing.T) {
	t.Parallel()
	own, peer := pair(t)
	fill(t, own)
	Reset(Of(own))
	waitFree(t, own.LocalAddr(), peer.LocalAddr(), time.Second)
}
