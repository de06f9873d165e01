package presence

import "example.com/presence/pkg/presence/room"

// StopCounting has the user count stand still, so that nobody is told of one:
// what is left of a join is its price without counts. It is called before the
// first join.
func (s *Server) StopCounting() {
	s.config.count = func(*room.Room) int { return 0 }
}

// Syncs returns how often the state of a room was encoded.
func (s *Server) Syncs() uint64 { return s.syncs.Load() }

// Portable returns the config of a server in which no goroutine waits for a
// socket, so that time can be testing/synctest's.
func Portable(c Config) Config {
	c.portable = true
	return c
}

// WithRoomsLocked calls f while no room can be found, made or dropped.
func (s *Server) WithRoomsLocked(f func()) {
	s.rooms.mu.Lock()
	defer s.rooms.mu.Unlock()
	f()
}

// FillRetries leaves no place for the id of a message.
func (s *Server) FillRetries() {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.memory.retries = room.NewRetries(retryAge, 0)
}

// SetMaxSyncs bounds the states of rooms that are on their way to clients, in
// bytes.
func (s *Server) SetMaxSyncs(most int) {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.memory.mostSyncs = most
}

// Telling returns how many states of rooms are on their way to clients, and how
// many bytes they have.
func (s *Server) Telling() (states, bytes int) {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	return s.memory.syncs.Len(), s.memory.telling
}

// Remembered returns how many bytes of messages, ids of messages, removals and
// rates are in memory.
func (s *Server) Remembered() [4]int {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	return [4]int{s.memory.history.Bytes(), s.memory.retries.Len(), s.memory.bans.Len(), len(s.rates.users)}
}
