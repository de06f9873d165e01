package room

import "time"

// Ends returns the number of scheduled ends of grace periods and bans.
func (r *Room) Ends() int { return len(r.parts.ends.queue) }

// LeaveFrom is like Leave, but finds the user of the connection itself.
func (r *Room) LeaveFrom(c ConnID, why Reason, now time.Time) {
	for m := range r.users.All() {
		if m.conns.has(c) {
			r.Leave(c, m.id, why, now)
			return
		}
	}
}
