package stream

import (
	"testing"
	"time"
)

func TestLost(t *testing.T) { // promise 5
	const after = 3 * time.Second
	for name, c := range map[string]struct {
		pulse pulse
		want  bool
	}{
		"it acknowledged everything":             {pulse{acked: 20, written: 20, silent: time.Minute, sent: time.Minute}, false},
		"sent again, in vain":                    {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: time.Second}, true},
		"not silent for long enough":             {pulse{acked: 10, written: 20, silent: 2 * time.Second, sent: time.Second}, false},
		"it had no time to answer":               {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: 10 * time.Millisecond}, false},
		"far away, it had no time":               {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: time.Second, rtt: 600 * time.Millisecond}, false},
		"no room, and it was sent nothing more":  {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: 5 * time.Second}, false},
		"no room, and it passed over a question": {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: 5 * time.Second, probes: 1}, false},
		"no room, and it answers no more":        {pulse{acked: 10, written: 20, silent: 4 * time.Second, sent: 5 * time.Second, probes: 2}, true},
		"no pulse can be felt":                   {pulse{}, false},
	} {
		if got := c.pulse.lost(after); got != c.want {
			t.Errorf("%s: lost is %v", name, got)
		}
	}
}
