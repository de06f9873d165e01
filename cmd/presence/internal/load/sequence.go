package load

// sequence follows the numbers of one room's messages at one client. It is a pure state machine.
// start must be called first.
type sequence struct {
	// base is the number up to which the client need not receive any. A smaller first number is no
	// error: its message was on its way when the stream opened.
	base int64
	// last is the largest received number. While it is less than 0, none was received since start.
	last int64
	// gaps are the missing numbers below last, in their order.
	gaps []span
	// excess is the number of missing numbers that gaps has no space for.
	excess int64
}

// span is the numbers from first to last, both included.
type span struct{ first, last int64 }

func (s span) size() int64 { return s.last - s.first + 1 }

// maxGaps bounds the memory of a client that misses many messages.
const maxGaps = 256

// arrival is the result of [sequence.add].
type arrival int

const (
	inOrder arrival = iota
	outOfOrder
	duplicate
)

// start begins anew: the client must receive the numbers after base. It returns the missing numbers
// of the time before, which are lost.
func (s *sequence) start(base int64) (lost missing) {
	lost = s.missing(s.last)
	*s = sequence{base: base, last: -1}
	return lost
}

// add records the arrival of a number, which is at least 1.
func (s *sequence) add(n int64) arrival {
	if s.last < 0 {
		s.last = min(n-1, s.base)
	}
	switch {
	case n > s.last:
		if n > s.last+1 {
			s.open(span{s.last + 1, n - 1})
		}
		s.last = n
		return inOrder
	case s.fill(n):
		return outOfOrder
	}
	return duplicate
}

func (s *sequence) open(gap span) {
	if len(s.gaps) == maxGaps {
		s.excess += gap.size()
		return
	}
	s.gaps = append(s.gaps, gap)
}

// fill removes a number from the gaps. It reports whether the number was missing.
func (s *sequence) fill(n int64) bool {
	for i, g := range s.gaps {
		if n < g.first || n > g.last {
			continue
		}
		rest := s.gaps[i+1:]
		parts := make([]span, 0, len(s.gaps)+1)
		parts = append(parts, s.gaps[:i]...)
		if g.first < n {
			parts = append(parts, span{g.first, n - 1})
		}
		if n < g.last {
			parts = append(parts, span{n + 1, g.last})
		}
		s.gaps = append(parts, rest...)
		return true
	}
	return false
}

// missing is a set of missing numbers.
type missing struct {
	spans  []span
	excess int64 // the number of further ones
}

// missing returns the numbers up to end that the client must receive and has not.
func (s *sequence) missing(end int64) missing {
	m := missing{spans: s.gaps, excess: s.excess}
	from := s.last
	if from < 0 {
		from = s.base
	}
	if end > from {
		m.spans = append(m.spans[:len(m.spans):len(m.spans)], span{from + 1, end})
	}
	return m
}

// complete reports whether the client has all numbers up to end.
func (s *sequence) complete(end int64) bool {
	return s.last >= end || s.last < 0 && s.base >= end
}

// count returns how many numbers are missing, without those in excused.
func (m missing) count(excused []span) (n int64) {
	n = m.excess
	for _, s := range m.spans {
		n += s.size()
		for _, e := range excused {
			n -= max(0, min(s.last, e.last)-max(s.first, e.first)+1)
		}
	}
	return n
}
