package load

import (
	"context"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestRunServerEnds checks that a run keeps its report if a measured process ends.
func TestRunServerEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFake(faults{}))
	t.Cleanup(server.Close)
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	r, err := Run(ctx, Config{
		Target: Presence, URL: server.URL, Clients: 5, Rooms: 1, Duration: time.Hour, Size: 100, SlowRate: 1000, PIDs: []int{process.Process.Pid},
		Progress: func(p Progress) {
			if p.Phase == "steady" {
				process.Process.Kill()
				process.Wait()
				enough()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Connected != 5 || r.Server != nil || r.Load == nil || !strings.Contains(r.ServerGone, "/stat: ") {
		t.Errorf("got %+v, want 5 connected clients, and the error of the server process", r)
	}
	if err := r.Err(); err == nil || !strings.HasPrefix(err.Error(), "server process ended: ") {
		t.Errorf("got the error %v, want one for the server process", err)
	}
}
