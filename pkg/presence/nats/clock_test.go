package nats_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/presence/pkg/presence/backplane"
)

// A row lives as long on a node whose clock is wrong as on any other node, whether the node
// receives the change or loads the row. Only a node with a wrong clock warns.
func TestRowsUnderWrongClock(t *testing.T) {
	t.Parallel()
	const ttl, warning = 10 * time.Minute, "clock differs from the clock of the NATS server"
	s := startServer(t)
	writer := open(t, config(s.ClientURL()))
	for name, ahead := range map[string]time.Duration{"right": 0, "slow": -time.Hour, "fast": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := func() time.Time { return time.Now().Add(ahead) }
			var out syncBuffer
			c := config(s.ClientURL()).WithClock(clock)
			c.Log = slog.New(slog.NewTextHandler(&out, nil))
			left := make(chan time.Duration, 10) // time to live of the row, at the moment of the call
			watch := func() (cancel func()) {
				cancel, err := open(t, c).Watch(func(r backplane.Row) {
					if r.Key == name {
						left <- r.Expires.Sub(clock())
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				return cancel
			}
			check := func(how string, age time.Duration) {
				t.Helper()
				select {
				case got := <-left:
					if got > ttl-age || got < ttl-age-20*time.Second {
						t.Errorf("%s row: got a time to live of %v, want %v", how, got, ttl-age)
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("%s row: timeout", how)
				}
			}
			defer watch()()
			if err := writer.Put(t.Context(), name, nil, ttl); err != nil {
				t.Fatal(err)
			}
			check("received", 0)
			pause(t, 1100*time.Millisecond) // the age of the row
			defer watch()()
			check("loaded", time.Second)
			_, after, warned := strings.Cut(out.String(), warning+`" ahead=`)
			text, _, _ := strings.Cut(after, " ")
			got, err := time.ParseDuration(text)
			if warned != (ahead != 0) || warned && (err != nil || (got-ahead).Abs() > 20*time.Second) {
				t.Errorf("got log\n%s\nwant the warning: %v, about %v ahead", out.String(), ahead != 0, ahead)
			}
		})
	}
}
