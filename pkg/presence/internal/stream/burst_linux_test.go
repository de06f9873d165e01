package stream_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence/internal/stream"
)

// narrow returns a dialer that sets a small receive buffer before it connects. If the buffer were
// set later, it would shrink a window that the client has already advertised. The server's kernel
// would then probe at increasing intervals.
func narrow(size int) net.Dialer {
	return net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) })
		return err
	}}
}

// A client that reads a little at a time receives a whole replay, however long this takes, although
// its socket is full most of the time.
func TestBursts(t *testing.T) { // promise 4
	t.Parallel()
	eachHTTP1(t, stream.Config{Heartbeat: 2 * time.Second}.WithProgressTime(2*time.Second), func(t *testing.T, g *rig) {
		t.Parallel()
		c, conn := g.rawBy(narrow(16<<10), get)
		long := "data: " + strings.Repeat("x", 112<<10) + "\n\n"
		conn.Send([]byte(long))
		response, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		now := time.NewTicker(600 * time.Millisecond)
		defer now.Stop()
		begun := time.Now()
		for got := 0; got < len(long); {
			<-now.C
			n, err := io.CopyN(io.Discard, response.Body, int64(min(16<<10, len(long)-got)))
			if got += int(n); err != nil {
				t.Fatalf("after %d bytes in %v: %v", got, time.Since(begun), err)
			}
		}
	})
}
