package metrics_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
)

// At the open-file limit, a stream is refused. The test is not parallel, because the limit is that
// of the process.
func TestOpenFilesRefused(t *testing.T) {
	s := open(t, presence.Config{})
	conn := s.dial()
	s.want("idle_connections", 1)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(2) // the lowest free descriptor
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", s.addr, user(t, "alice"))
	text := bufio.NewScanner(conn)
	for text.Scan() && !strings.Contains(text.Text(), "goodbye") {
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	s.only("refusals_total", `refusals_total{reason="open_files"}`, 1)
	s.logged(1, `level=WARN msg="request refused" cause=open_files count=1 detail="`)
	s.logged(1, `level=DEBUG msg="stream refused" cause=open_files`)
	s.want("connections", 0, "streams_opened_total", 0)
	s.only("streams_ended_total")
}
