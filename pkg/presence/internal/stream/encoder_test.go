package stream

import (
	"sync/atomic"
	"testing"
	"time"
)

// released counts the frames of fan-outs.
type released struct{ n atomic.Int64 }

func (r *released) fanOut(f *frame) {
	r.n.Add(1)
	f.release()
}

// close ends the encoders although events are queued.
func TestEncodersCloseWithBacklog(t *testing.T) {
	es := openEncoders(1)
	to := new(released)
	const events = 200_000
	for range events {
		f := new(frame)
		f.retain()
		es.all[0].add(publication{f, Event{ID: "a-1", Name: "x", Data: []byte("{}")}, to})
	}
	closed := make(chan struct{})
	go func() { es.close(); close(closed) }() // ends at the latest with the test
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("close does not return")
	}
	if n := to.n.Load(); n == events {
		t.Error("all events were encoded before close, so there was no backlog")
	}
}
