package main

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Promise 5: the sockets that are accepted have the listener's bound on what
// goes unacknowledged.
func TestListenFindsThePeerGone(t *testing.T) {
	for heartbeat, want := range map[time.Duration]int{15 * time.Second: 12_000, 2 * time.Second: 1_000} {
		l, err := listen(t.Context(), "127.0.0.1:0", heartbeat)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			get := func(level, option int) int {
				v, err := unix.GetsockoptInt(int(fd), level, option)
				if err != nil {
					t.Error(err)
				}
				return v
			}
			if got := get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != want {
				t.Errorf("heartbeat %v: TCP_USER_TIMEOUT is %d ms, want %d", heartbeat, got, want)
			}
			if on, idle := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE), get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); on != 1 || idle != int(heartbeat.Seconds()) {
				t.Errorf("heartbeat %v: keepalive %d after %d s", heartbeat, on, idle)
			}
		})
	}
}
