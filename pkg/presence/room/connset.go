package room

// connSet is the set of connections of a member. Most members have one connection, which needs no
// further memory.
type connSet struct {
	one  ConnID              // the id of a connection, plus 1; 0: none
	more map[ConnID]struct{} // the other connections; nil if there are none
}

func (s *connSet) has(c ConnID) bool {
	_, there := s.more[c]
	return there || s.one == c+1
}

// add reports whether the set did not contain the connection.
func (s *connSet) add(c ConnID) bool {
	switch {
	case s.has(c):
		return false
	case s.one == 0:
		s.one = c + 1
	case s.more == nil:
		s.more = map[ConnID]struct{}{c: {}}
	default:
		s.more[c] = struct{}{}
	}
	return true
}

// remove reports whether the set contained the connection.
func (s *connSet) remove(c ConnID) bool {
	if !s.has(c) {
		return false
	}
	if s.one == c+1 {
		s.one = 0
	} else if delete(s.more, c); len(s.more) == 0 {
		s.more = nil
	}
	return true
}

func (s *connSet) len() int { return min(int(s.one), 1) + len(s.more) }
