package client

import (
	"io"
	"time"
)

// Decode decodes a whole stream as the client does.
func Decode(r io.Reader) (events []Event, lastID string, retry time.Duration, err error) {
	lastID, retry, err = DecodeEach(r, func(e Event) { events = append(events, e) })
	return events, lastID, retry, err
}

// DecodeEach is like Decode, but passes each event to emit immediately.
func DecodeEach(r io.Reader, emit func(Event)) (lastID string, retry time.Duration, err error) {
	var d decoder
	err = d.decode(r, func(e Event) error {
		emit(e)
		return nil
	})
	return d.lastID, d.retry, err
}
