package backplane

import "example.com/presence/pkg/presence/room"

// SenderInRoom identifies a share of the log.
type SenderInRoom struct {
	Sender room.UserID
	Room   room.Name
}

// Shares returns the bytes of each sender in each room.
func (m *Memory) Shares() map[SenderInRoom]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	shares := map[SenderInRoom]int{}
	for s := range m.topics.logs.accounts.All() {
		shares[SenderInRoom{s.Holder(), s.Place().name}] += s.Units()
	}
	return shares
}
