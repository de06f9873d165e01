package socket

import (
	"testing"
	"time"
)

func TestLost(t *testing.T) { // promise 5
	const after = 3 * time.Second
	for name, c := range map[string]struct {
		pulse Pulse
		want  bool
	}{
		"everything is acknowledged":             {Pulse{Acked: 20, Written: 20, Silent: time.Minute, Sent: time.Minute}, false},
		"sent again without an answer":           {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second}, true},
		"not silent for long enough":             {Pulse{Acked: 10, Written: 20, Silent: 2 * time.Second, Sent: time.Second}, false},
		"no time to answer":                      {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 10 * time.Millisecond}, false},
		"no time to answer, long round trip":     {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second, RTT: 600 * time.Millisecond}, false},
		"no buffer space, nothing sent since":    {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second}, false},
		"no buffer space, one probe unanswered":  {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 1}, false},
		"no buffer space, two probes unanswered": {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 2}, true},
		"figures unknown":                        {Pulse{}, false},
	} {
		if got := c.pulse.Lost(after); got != c.want {
			t.Errorf("%s: got lost %v, want %v", name, got, c.want)
		}
	}
}
