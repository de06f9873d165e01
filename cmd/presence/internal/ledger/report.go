package ledger

import (
	"fmt"
	"time"
)

// Fault is a promise that the server has not kept.
type Fault struct {
	At     time.Time
	Client string // "" if the fault concerns no single client
	Text   string
}

func (f Fault) String() string {
	return fmt.Sprintf("%s %s: %s", f.At.Format("15:04:05.000"), f.Client, f.Text)
}

// Report is the result of [Check].
type Report struct {
	Faults   []Fault // in the order of the checks, nil if there is none
	Clients  int     // clients that opened a stream
	Opened   int     // streams opened
	Accepted int     // messages answered with 202
	Refused  int     // messages with only refused or lost answers
	Shown    int     // refused messages that a client received all the same
	Received int     // messages received by all clients
	Resets   int     // resets received by all clients
	Live     int     // those of clients that were connected: after the first sync of the stream
	Epochs   int
}

// String returns a summary in one line.
func (r Report) String() string {
	return fmt.Sprintf("%d faults; %d clients opened %d streams; %d messages accepted, %d refused (%d of them received); %d received, %d resets (%d of connected clients), %d epochs",
		len(r.Faults), r.Clients, r.Opened, r.Accepted, r.Refused, r.Shown, r.Received, r.Resets, r.Live, r.Epochs)
}
