package hub

import (
	"container/list"
	"sync"
)

// snapshots bounds the snapshots that are on their way to joiners, over all rooms. Each flush
// interval with joiners makes another one, which is in memory once for all of them.
type snapshots struct {
	limit int // bytes

	mu       sync.Mutex // guards what follows; taken under a room's
	underWay list.List  // of *snapshot, the oldest first
	bytes    int        // of all
}

// snapshot is the account of one.
type snapshot struct {
	size    int
	to      map[*Connection]struct{} // have not taken it yet
	element *list.Element            // of snapshots.underWay; nil once it counts no more
}

// start counts a snapshot for these joiners. Above the limit it returns the connections that must
// end: those of the older half of the snapshots. The newest always goes out.
func (s *snapshots) start(size int, joiners []joiner) (n *snapshot, slow []*Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = &snapshot{size: size, to: make(map[*Connection]struct{}, len(joiners))}
	for _, j := range joiners {
		n.to[j.Connection] = struct{}{}
	}
	older := s.underWay.Len()
	n.element = s.underWay.PushBack(n)
	if s.bytes += size; s.bytes <= s.limit {
		return n, nil
	}
	for range (older + 1) / 2 {
		old := s.underWay.Front().Value.(*snapshot)
		for conn := range old.to {
			slow = append(slow, conn)
		}
		s.removeLocked(old)
	}
	return n, slow
}

// sent notes that the client has taken the snapshot, or will not. A second call does nothing.
func (s *snapshots) sent(n *snapshot, conn *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(n.to, conn)
	if len(n.to) == 0 {
		s.removeLocked(n)
	}
}

func (s *snapshots) removeLocked(n *snapshot) {
	if n.element != nil {
		s.underWay.Remove(n.element)
		s.bytes -= n.size
		n.element, n.to = nil, nil
	}
}

// held returns the number of snapshots under way and their bytes.
func (s *snapshots) held() (count, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.underWay.Len(), s.bytes
}
