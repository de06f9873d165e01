package client

import (
	"io"
	"time"
)

// Decode reads a whole stream as the client does.
func Decode(r io.Reader) (events []Event, lastID string, retry time.Duration, err error) {
	var d decoder
	err = d.decode(r, func(e Event) error {
		events = append(events, e)
		return nil
	})
	return events, d.lastID, d.retry, err
}
