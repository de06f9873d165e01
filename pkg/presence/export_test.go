package presence

import "example.com/presence/pkg/presence/room"

// WithoutCounts returns the config of a server whose user count never changes, so that none is
// published: what is left of a join is its price without counts.
func WithoutCounts(c Config) Config {
	c.count = func(*room.Room) int { return 0 }
	return c
}

// Portable returns the config of a server in which no goroutine waits for a socket, so that time can
// be testing/synctest's.
func Portable(c Config) Config {
	c.portable = true
	return c
}

// WithMaxSnapshots returns the config of a server with that limit on the snapshots that are on their
// way to clients, in bytes.
func WithMaxSnapshots(c Config, limit int) Config {
	c.maxSnapshots = limit
	return c
}

// Remembered returns how many bytes of messages, idempotency keys, bans and rates are in memory.
func (s *Server) Remembered() [4]int {
	stats := s.Stats()
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	return [4]int{stats.LogBytes, stats.LogKeys, stats.Bans, len(s.rates.users)}
}
