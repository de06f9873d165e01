package presence

import "example.com/presence/pkg/presence/room"

// WithoutCounts returns a copy of c for a server whose user count never changes, so that each
// client receives it only once. Benchmarks use it to measure a join without the cost of counts.
func WithoutCounts(c Config) Config {
	c.count = func(*room.Room) int { return 0 }
	return c
}

// Portable returns a copy of c for a server without goroutines that wait for sockets, so that a
// test can run in testing/synctest.
func Portable(c Config) Config {
	c.portable = true
	return c
}

// WithMinRing returns a copy of c for a server that uses io_uring for rooms with that many clients.
func WithMinRing(c Config, clients int) Config {
	c.minRing = clients
	return c
}

// WithMaxSnapshots returns a copy of c with that limit on unsent snapshots, in bytes.
func WithMaxSnapshots(c Config, limit int) Config {
	c.maxSnapshots = limit
	return c
}

// Remembered returns the size of the data in memory: the bytes of messages, and the numbers of
// idempotency keys and bans.
func (s *Server) Remembered() [3]int {
	stats := s.Stats()
	return [3]int{stats.LogBytes, stats.LogKeys, stats.Bans}
}

// DefaultCosts returns the defaults of Config.CostRate and Config.CostBurst.
func DefaultCosts() (perSecond, burst int) {
	c, _ := Config{}.withDefaults() // the error is about the Authenticator
	return c.CostRate, c.CostBurst
}
