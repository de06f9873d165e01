package stream

import "example.com/presence/pkg/presence/internal/uring"

// ringSends collects the sends of a group, and makes them with one system call. Only the goroutine
// of its loop uses it.
type ringSends struct {
	rings *rings
	ring  *uring.Ring // nil if the loop sends with write only
	sends []uring.Send
	to    []receiver // the connections of sends
}

// open opens a ring if all loops use one. Otherwise, and after a failure, open leaves ring nil.
func (s *ringSends) open(r *rings, enter uring.Enter) {
	s.rings = r
	if !r.used.Load() {
		return
	}
	var err error
	if s.ring, err = uring.Open(ringGroup, enter); err != nil {
		r.fail(err)
	}
}

func (s *ringSends) close() {
	if s.ring != nil {
		s.ring.Close()
		s.ring = nil
	}
}

// add adds a send of b to the group.
func (s *ringSends) add(c receiver, socket int32, b []byte) {
	s.sends, s.to = append(s.sends, uring.Send{Socket: socket, Bytes: b}), append(s.to, c)
}

// flush makes the sends of the group. It passes the result of each to sent: the bytes, and their
// number as in [uring.Send]. It closes the ring if this or another loop's ring has failed.
func (s *ringSends) flush(sent func(c receiver, b []byte, n int)) {
	failed := s.ring.Send(s.sends)
	for i, c := range s.to {
		sent(c, s.sends[i].Bytes, s.sends[i].N)
	}
	clear(s.sends)
	clear(s.to)
	s.sends, s.to = s.sends[:0], s.to[:0]
	if failed != nil {
		s.rings.fail(failed)
	}
	if !s.rings.used.Load() {
		s.close()
	}
}
