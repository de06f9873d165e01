package presence

import "example.com/presence/pkg/presence/room"

// WithoutCounts returns the config of a server whose user count never changes and is published to
// each client only once. It measures the cost of a join without counts.
func WithoutCounts(c Config) Config {
	c.count = func(*room.Room) int { return 0 }
	return c
}

// Portable returns the config of a server without goroutines that wait for sockets, so that tests
// can run in testing/synctest.
func Portable(c Config) Config {
	c.portable = true
	return c
}

// WithMaxSnapshots returns the config of a server with that limit on unsent snapshots, in bytes.
func WithMaxSnapshots(c Config, limit int) Config {
	c.maxSnapshots = limit
	return c
}

// Remembered returns the bytes of messages and the numbers of idempotency keys, bans and rates in
// memory.
func (s *Server) Remembered() [4]int {
	stats := s.Stats()
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	return [4]int{stats.LogBytes, stats.LogKeys, stats.Bans, len(s.rates.users)}
}
