package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"example.com/presence/pkg/presence/room"
)

// A send that blocks does not make the next one late: only a timer that fires late shows that the
// process was stopped.
func TestBlockedSendIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := map[room.Name]time.Duration{}
		o := newOutbox(system{}, func(topic room.Name, due time.Time) {
			late[topic] = time.Since(due)
			if topic == "first" {
				time.Sleep(5 * time.Second)
			}
		})
		o.add("first", time.Now())
		o.add("second", time.Now().Add(time.Second))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		o.close()
		if late["second"] != 0 || len(late) != 2 {
			t.Errorf("got lateness %v, want 0s of both", late)
		}
	})
}
