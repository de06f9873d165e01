package hub

import (
	"container/list"
	"sync"
)

// snapshots is the budget of snapshots: it limits the bytes of the snapshots that joiners have not
// taken yet, over all rooms. Each flush interval with joiners encodes one snapshot. It is in memory
// once for all of them.
type snapshots struct {
	limit int // bytes

	mu       sync.Mutex // guards the fields below; taken under a counter's mutex
	underWay list.List  // of *snapshot, the oldest first
	bytes    int        // of all snapshots in underWay
}

// snapshot is the account of one unsent snapshot.
type snapshot struct {
	size    int
	to      map[*Connection]struct{} // joiners that have not taken it yet
	element *list.Element            // in snapshots.underWay; nil when it no longer counts
}

// start counts a snapshot for these joiners. Above the limit it returns the connections that the
// caller must end: those of the older half of the snapshots. The newest is always sent.
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

// sent notes that the client has taken the snapshot or has ended. A second call does nothing.
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

// held returns the number of unsent snapshots, and their bytes.
func (s *snapshots) held() (count, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.underWay.Len(), s.bytes
}
