package presence_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"example.com/presence/pkg/presence"
)

// Promise 4: the kernel's send buffer for a client that reads nothing is bounded, even on a
// listener of the embedding program. net.Listen returns a Multipath TCP listener, whose sockets do
// not inherit the bound.
func TestPromise4KernelHoldsLittle(t *testing.T) {
	server, err := presence.New(presence.Config{Authenticator: authenticator(func(*http.Request) (presence.User, error) {
		return testUser("alice"), nil
	}), Logger: slog.New(slog.DiscardHandler), MaxUnsent: 8 << 20}) // more than this test sends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: server}
	go h.Serve(server.Harden(h, l)) // ended by Close
	t.Cleanup(func() { h.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	for r, line := bufio.NewReaderSize(c, 16), ""; line != "event: user count\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // 6 MB
		if _, err := server.Publish(t.Context(), "lobby", "m", strings.Repeat("x", 60<<10)); err != nil {
			t.Fatal(err)
		}
	}
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ends := fmt.Sprintf(":%04X 0100007F:%04X 01 ", l.Addr().(*net.TCPAddr).Port, c.LocalAddr().(*net.TCPAddr).Port)
	_, after, found := strings.Cut(string(table), ends)
	var queued int
	if _, err := fmt.Sscanf(after, "%X:", &queued); err != nil || !found {
		t.Fatalf("/proc/self/net/tcp: got no line of the socket (%v), want one", err)
	}
	if queued > 512<<10 || queued == 0 {
		t.Errorf("got %d bytes in the kernel's send buffer, want 1 to %d", queued, 512<<10)
	}
}
