package nats

import (
	"sync"
	"time"
)

// maxSamples bounds the samples. They cover 20 s.
const maxSamples = 10

// sample is the last sequence number of the stream at a moment.
type sample struct {
	at       time.Time
	sequence uint64
}

// progress records how far the log has come, in one epoch.
type progress struct {
	mu      sync.Mutex // guards the fields below
	epoch   string
	highest uint64   // sequence number of the epoch that this node has seen
	entry   sample   // the newest entry that was delivered, and its time in the log
	samples []sample // by time
}

// mark is the highest sequence number of an epoch at a moment.
type mark struct {
	epoch   string
	highest uint64
}

// mark returns the current mark. To compare it with an answer of the stream, call it before the
// request: the log grows meanwhile.
func (p *progress) mark() mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return mark{p.epoch, p.highest}
}

// exceeds reports whether the mark is above the last sequence number of the epoch.
func (m mark) exceeds(epoch string, last uint64) bool { return m.epoch == epoch && m.highest > last }

// start forgets everything about an epoch before this one.
func (p *progress) start(epoch string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch != epoch {
		p.epoch, p.highest, p.entry, p.samples = epoch, 0, sample{}, nil
	}
}

// reached records a sequence number of an epoch.
func (p *progress) reached(epoch string, sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch == epoch {
		p.highest = max(p.highest, sequence)
	}
}

// delivered records an entry that was delivered. It does not raise the highest sequence number,
// which only answers of the stream may do: another client of the account could have published the
// entry.
func (p *progress) delivered(epoch string, sequence uint64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch == epoch && sequence > p.entry.sequence {
		p.entry = sample{at, sequence}
	}
}

// newest returns the newest entry of the epoch that was delivered; the zero value: none.
func (p *progress) newest(epoch string) sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch != epoch {
		return sample{}
	}
	return p.entry
}

// high returns the highest sequence number of the epoch.
func (p *progress) high(epoch string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch != epoch {
		return 0
	}
	return p.highest
}

// sampled records the last sequence number of the stream.
func (p *progress) sampled(epoch string, sequence uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch != epoch {
		return
	}
	p.highest = max(p.highest, sequence)
	p.samples = append(p.samples, sample{now, sequence})
	if n := len(p.samples) - maxSamples; n > 0 {
		p.samples = append(p.samples[:0], p.samples[n:]...)
	}
}

// before returns the newest sample before a moment. ok is false if there is none.
func (p *progress) before(at time.Time) (s sample, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.samples) - 1; i >= 0; i-- {
		if p.samples[i].at.Before(at) {
			return p.samples[i], true
		}
	}
	return sample{}, false
}
