package stream

import "example.com/presence/pkg/presence/internal/uring"

// ringSends collects the sends of a group, and makes them with one system call. Only the goroutine
// of its loop uses it.
type ringSends struct {
	*resources
	ring  *uring.Ring // nil if the loop sends with write only
	sends []uring.Send
	to    []receiver // the connections of sends
}

// open opens a ring, unless another loop could not. Otherwise, and after an error, ring stays nil.
func (s *ringSends) open(r *resources) {
	s.resources = r
	if !r.rings.used.Load() {
		return
	}
	var err error
	if s.ring, err = uring.Open(ringGroupAlone, r.config.enter); err != nil {
		r.rings.fail(err)
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

// flush makes the sends of the group, and passes each with its result to sent. It closes the ring
// if this one or that of another loop has failed.
func (s *ringSends) flush(sent func(receiver, uring.Send)) {
	if len(s.sends) > 0 {
		failed := s.ring.Send(s.sends)
		for i, c := range s.to {
			sent(c, s.sends[i])
		}
		clear(s.sends)
		clear(s.to)
		s.sends, s.to = s.sends[:0], s.to[:0]
		if report := s.config.IOUringFailed; failed != nil && s.rings.fail(failed) && report != nil {
			s.ended.add(func() { report(failed) }) // not on this goroutine, because it may block
		}
	}
	if !s.rings.used.Load() {
		s.close()
	}
}
