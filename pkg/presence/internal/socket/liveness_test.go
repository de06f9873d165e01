package socket

import (
	"testing"
	"time"
)

func TestLost(t *testing.T) { // promise 5
	const after = 3 * time.Second
	for name, c := range map[string]struct {
		liveness Liveness
		want     bool
	}{
		"everything is acknowledged":          {Liveness{Acked: 20, Written: 20, Silent: time.Minute, Sent: time.Minute}, false},
		"retransmitted, not acknowledged":     {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second}, true},
		"not silent for long enough":          {Liveness{Acked: 10, Written: 20, Silent: 2 * time.Second, Sent: time.Second}, false},
		"no time to respond":                  {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 10 * time.Millisecond}, false},
		"no time to respond, long round trip": {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second, RTT: 600 * time.Millisecond}, false},
		"buffer full, nothing sent since":     {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second}, false},
		"buffer full, one probe unanswered":   {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 1}, false},
		"buffer full, two probes unanswered":  {Liveness{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 2}, true},
		"statistics unknown":                  {Liveness{}, false},
	} {
		if got := c.liveness.Lost(after); got != c.want {
			t.Errorf("%s: got lost %v, want %v", name, got, c.want)
		}
	}
}
