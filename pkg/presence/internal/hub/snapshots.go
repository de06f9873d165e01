package hub

import (
	"container/list"
	"sync"
)

// snapshots is the snapshot budget. It limits the total size of unsent snapshots, over all rooms. A
// flush interval with joiners encodes one snapshot, which its joiners share.
type snapshots struct {
	limit int // bytes

	mu       sync.Mutex // guards the fields below; acquired under a counter's mutex
	underWay list.List  // of *snapshot, the oldest first
	bytes    int        // total size of the snapshots in underWay
}

// snapshot tracks one unsent snapshot.
type snapshot struct {
	size    int
	to      map[*Connection]struct{} // joiners to which the snapshot was not sent yet
	element *list.Element            // in snapshots.underWay; nil if the snapshot no longer counts
}

// start adds a snapshot for the joiners. If the limit is exceeded, it removes the older half of the
// snapshots and returns their connections, which the caller must close. The newest snapshot is
// always sent.
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

// sent records that the snapshot was sent to the connection, or that the connection is closed. A
// second call does nothing.
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

func (s *snapshots) held() (count, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.underWay.Len(), s.bytes
}
