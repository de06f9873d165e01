package room

// Ends returns the number of scheduled ends of grace periods and bans.
func (r *Room) Ends() int { return len(r.parts.ends.queue) }
