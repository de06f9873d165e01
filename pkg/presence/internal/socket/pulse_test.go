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
		"it acknowledged everything":             {Pulse{Acked: 20, Written: 20, Silent: time.Minute, Sent: time.Minute}, false},
		"sent again, in vain":                    {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second}, true},
		"not silent for long enough":             {Pulse{Acked: 10, Written: 20, Silent: 2 * time.Second, Sent: time.Second}, false},
		"it had no time to answer":               {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 10 * time.Millisecond}, false},
		"far away, it had no time":               {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: time.Second, RTT: 600 * time.Millisecond}, false},
		"no room, and it was sent nothing more":  {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second}, false},
		"no room, and it passed over a question": {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 1}, false},
		"no room, and it answers no more":        {Pulse{Acked: 10, Written: 20, Silent: 4 * time.Second, Sent: 5 * time.Second, Probes: 2}, true},
		"no pulse can be felt":                   {Pulse{}, false},
	} {
		if got := c.pulse.Lost(after); got != c.want {
			t.Errorf("%s: lost is %v", name, got)
		}
	}
}
