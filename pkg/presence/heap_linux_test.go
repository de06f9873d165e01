//go:build !race

package presence_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/auth"
)

// A connection takes at most 760 bytes of the live heap in a large room, and 2,000 bytes in a room
// of its own. Each client is its own user. The clients are bare sockets, which take no heap.
// The race detector changes the heap, so the test does not run with it.
func TestHeapPerConnection(t *testing.T) {
	for name, c := range map[string]struct {
		room  func(client int) string
		bound int // in bytes
	}{
		"one room":          {func(int) string { return "lobby" }, 760},
		"a room per client": {func(i int) string { return fmt.Sprint("room-", i) }, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			h, addr := hardened(t, presence.Config{Logger: slog.New(slog.DiscardHandler)}, true, false)
			to := netip.MustParseAddrPort(addr)
			const clients = 2000
			var sockets []int
			t.Cleanup(func() {
				for _, fd := range sockets {
					unix.Close(fd)
				}
			})
			connect := func(i int) {
				token := mint(t, auth.Claims{Sub: fmt.Sprint("client-", i), Join: []string{"*"}})
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				sockets = append(sockets, fd)
				if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
					t.Fatal(err)
				}
				request := fmt.Sprintf("GET /presence/events?room=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", c.room(i), addr, token)
				if _, err := unix.Write(fd, []byte(request)); err != nil {
					t.Fatal(err)
				}
			}
			await := func(connections int) {
				for end := time.Now().Add(patience); h.Stats().Connections < connections; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("got %d connections after %v, want %d", h.Stats().Connections, patience, connections)
					}
				}
			}
			connect(0)
			await(1)
			before := liveHeap()
			for i := range clients {
				connect(i + 1)
			}
			await(clients + 1)
			per := func() int { return (liveHeap() - before) / clients }
			for end := time.Now().Add(patience); per() > c.bound && time.Now().Before(end); { // the last requests end
				time.Sleep(10 * time.Millisecond)
			}
			if got := per(); got > c.bound || got < 100 {
				t.Errorf("got %d bytes per connection, want at most %d", got, c.bound)
			}
		})
	}
}

// liveHeap returns the size of the live objects in bytes. The second collection frees the pools.
func liveHeap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
