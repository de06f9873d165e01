package metrics_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
)

// A client that vanishes without a word ends its stream, and leaves, with the reason timeout.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := open(t, presence.Config{Heartbeat: time.Second, Linger: -1})
	conn := s.dial()
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nX-Request-Id: gone\r\n\r\n", s.addr, user(t, "alice"))
	s.want("connections", 1, "joins_total", 1)
	s.only("streams_ended_total")
	s.only("leaves_total")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { // this filter drops every packet
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.only("streams_ended_total", `streams_ended_total{reason="timeout"}`, 1)
	s.only("leaves_total", `leaves_total{reason="timeout"}`, 1)
	s.logged(1, `level=DEBUG msg="stream ended" room=lobby user=alice client_address=127.0.0.1 request_id=gone reason=timeout duration=`)
}
