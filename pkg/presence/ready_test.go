package presence_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence"
	"example.com/presence/pkg/presence/backplane"
)

// statusBus is an engine that several nodes share, with the status that a test sets.
type statusBus struct {
	backplane.Bus
	status atomic.Pointer[backplane.Status]
}

// newStatusBus returns an engine that has never been connected.
func newStatusBus() *statusBus {
	b := &statusBus{Bus: backplane.NewMemory(backplane.MemoryConfig{Shared: true})}
	b.status.Store(&backplane.Status{})
	return b
}

func (b *statusBus) Status() backplane.Status { return *b.status.Load() }

// connect sets the status after the first contact.
func (b *statusBus) connect(connected bool) {
	s := b.Bus.Status()
	s.Connected = connected
	b.status.Store(&s)
}

// A node is not ready before its first contact with the backplane. If it is cut off later, it is
// ready, unless Config.ReadyNeedsBackplane is set.
func TestReadyOfNode(t *testing.T) {
	for name, needs := range map[string]bool{"default": false, "ReadyNeedsBackplane": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := newStatusBus()
				defer bus.Bus.Close()
				b := newBubble(t, presence.Config{Backplane: bus, ReadyNeedsBackplane: needs})
				defer b.Shutdown(t.Context())
				expect := func(when string, status int, body string) {
					t.Helper()
					answer := b.ask("GET", "/readyz", "", presence.User{})
					if got := strings.TrimSpace(answer.Body.String()); answer.Code != status || !strings.Contains(got, body) {
						t.Errorf("%s: got %d %s, want %d %s", when, answer.Code, got, status, body)
					}
					if retry := answer.Header().Get("Retry-After"); (status == 503) != (retry != "") {
						t.Errorf("%s: got Retry-After %q with %d", when, retry, status)
					}
				}
				down, downBody := http.StatusOK, `{"status":"ready","backplane":"down"}`
				if needs {
					down, downBody = http.StatusServiceUnavailable, "backplane unavailable"
				}
				expect("before the first contact", http.StatusServiceUnavailable, "backplane unavailable")
				bus.connect(true)
				time.Sleep(2 * time.Second)
				expect("with contact", http.StatusOK, `{"status":"ready"}`)
				bus.connect(false)
				expect("not connected", down, downBody)
				if answer := b.ask("POST", "/messages", `{"data":1}`, testUser("alice")); answer.Code != http.StatusAccepted {
					t.Errorf("POST while the log still answers: got %d, want 202", answer.Code)
				}
				bus.connect(true)
				expect("connected again", http.StatusOK, `{"status":"ready"}`)
				b.Shutdown(t.Context())
				expect("after the shutdown", http.StatusServiceUnavailable, "server shutting down")
			})
		})
	}
}
