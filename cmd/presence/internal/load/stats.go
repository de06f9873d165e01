package load

import (
	"maps"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// stats are the figures of some clients.
type stats struct {
	attempts int               // connections begun
	failed   map[string]int    // attempts without a stream, by reason
	details  map[string]string // the first detail of a failure, by reason
	ended    map[string]int    // streams ended by the server or the network, by reason
	churned  int               // streams closed by the churn
	resumed  int               // streams opened with a last event id

	open    int // open streams
	flight  int // connections begun, but without a stream (or, if the target counts, a first count)
	waiting int // clients that will connect again
	dead    int // clients that will not

	deliveries int64 // messages received, duplicates included
	duplicated int64
	outOfOrder int64
	strays     int64 // messages of other rooms
	lost       int64 // numbers lost by streams that began anew
	resets     int64
	bytes      int64 // bytes received

	toOpen, toCount, toReceipt times
}

// maxReasons bounds the number of different reasons; the rest counts as "other".
const maxReasons = 30

func count(reasons *map[string]int, reason string) {
	if *reasons == nil {
		*reasons = map[string]int{}
	}
	if _, known := (*reasons)[reason]; !known && len(*reasons) >= maxReasons {
		reason = "other"
	}
	(*reasons)[reason]++
}

// add adds the figures of other clients.
func (s *stats) add(o *stats) {
	s.attempts += o.attempts
	s.churned += o.churned
	s.resumed += o.resumed
	s.open += o.open
	s.flight += o.flight
	s.waiting += o.waiting
	s.dead += o.dead
	s.deliveries += o.deliveries
	s.duplicated += o.duplicated
	s.outOfOrder += o.outOfOrder
	s.strays += o.strays
	s.lost += o.lost
	s.resets += o.resets
	s.bytes += o.bytes
	for reason, detail := range o.details {
		s.detail(reason, detail)
	}
	s.failed, s.ended = sum(s.failed, o.failed), sum(s.ended, o.ended)
	s.toOpen.add(&o.toOpen)
	s.toCount.add(&o.toCount)
	s.toReceipt.add(&o.toReceipt)
}

// detail keeps the first detail of a reason. The reasons are the statuses, so that their number is
// bounded.
func (s *stats) detail(reason, detail string) {
	if _, known := s.details[reason]; known || detail == "" {
		return
	}
	if s.details == nil {
		s.details = map[string]string{}
	}
	s.details[reason] = detail
}

func sum(a, b map[string]int) map[string]int {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]int{}
	}
	for reason, n := range b {
		all[reason] += n
	}
	return all
}

// times is a distribution of times. The zero value is empty. Its figures are exact to 0.1 %, and at
// least to 1 µs.
type times struct{ histogram *hdrhistogram.Histogram }

// maxTime is the largest time of a distribution. A longer one counts as this.
const maxTime = 10 * time.Minute

func (t *times) record(d time.Duration) {
	if t.histogram == nil {
		t.histogram = hdrhistogram.New(1, int64(maxTime/time.Microsecond), 3)
	}
	// The value is in the range, so there is no error.
	_ = t.histogram.RecordValue(max(1, min(int64(d/time.Microsecond), int64(maxTime/time.Microsecond))))
}

func (t *times) add(o *times) {
	if o.histogram == nil {
		return
	}
	if t.histogram == nil {
		t.histogram = hdrhistogram.New(1, int64(maxTime/time.Microsecond), 3)
	}
	t.histogram.Merge(o.histogram)
}

// at returns the time that a share of the recorded times does not exceed; 0 if there are none.
func (t *times) at(share float64) time.Duration {
	if t.histogram == nil {
		return 0
	}
	return time.Duration(t.histogram.ValueAtQuantile(100*share)) * time.Microsecond
}

func (t *times) number() int64 {
	if t.histogram == nil {
		return 0
	}
	return t.histogram.TotalCount()
}
