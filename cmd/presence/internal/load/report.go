package load

import (
	"errors"
	"fmt"
	"time"
)

// Report is the result of a run.
type Report struct {
	Target  Target  `json:"target"`
	URL     string  `json:"url"`
	Clients int     `json:"clients"`
	Rooms   int     `json:"rooms"`
	Ramp    Seconds `json:"ramp_s"`   // length of the ramp phase
	Steady  Seconds `json:"steady_s"` // length of the steady phase

	Connected   int            `json:"connected"`   // clients with a stream at the end
	Connections int            `json:"connections"` // connections begun
	Failed      map[string]int `json:"failed"`      // connections without a stream, by reason
	Ended       map[string]int `json:"ended"`       // streams that the server or the network ended, by reason
	// Details has the detail of the first problem document with each status, such as "status 401".
	Details map[string]string `json:"details,omitempty"`
	Churned int               `json:"churned"` // streams that the churn ended
	Resumed int               `json:"resumed"` // streams opened with a last event id
	Resets  int64             `json:"resets"`  // events that report lost messages

	Accepted   int64          `json:"accepted"` // messages that the server accepted
	PerSecond  float64        `json:"accepted_per_s"`
	Unsure     int64          `json:"unsure"`  // messages whose request has an unknown outcome
	Refused    map[string]int `json:"refused"` // requests with a message that failed, by reason
	Deliveries int64          `json:"deliveries"`
	Delivered  float64        `json:"deliveries_per_s"` // in the steady phase
	Lost       int64          `json:"lost"`
	Duplicated int64          `json:"duplicated"`
	OutOfOrder int64          `json:"out_of_order"`
	Strays     int64          `json:"strays"` // messages of other rooms

	// Counts is nil if the target sends no user counts.
	Counts *Counts `json:"counts,omitempty"`

	JoinToOpen    Distribution `json:"join_to_open"`
	JoinToCount   Distribution `json:"join_to_count"`
	SendToReceipt Distribution `json:"send_to_receipt"`

	Bytes int64 `json:"bytes"` // received by all clients

	Load   *Usage `json:"load,omitempty"`   // this process; nil if unknown
	Server *Usage `json:"server,omitempty"` // the processes of Config.PIDs; nil if there are none

	// ServerGone is the error if a process of Config.PIDs ended during the run. Server is then nil.
	ServerGone string `json:"server_gone,omitempty"`
}

// Seconds is a time in seconds.
type Seconds float64

func secondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Counts is the comparison of the last user counts at the end. The right count of a client is the
// number of connections that this run has in its room, or the number of their users.
type Counts struct {
	Right int `json:"right"` // clients with the right count
	Wrong int `json:"wrong"`
	Least int `json:"least"` // the smallest and the largest count
	Most  int `json:"most"`
}

// Distribution is a distribution of times, in milliseconds.
type Distribution struct {
	Number int64   `json:"number"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

func distributionOf(t *times) Distribution {
	ms := func(share float64) float64 { return float64(t.at(share)) / float64(time.Millisecond) }
	return Distribution{t.number(), ms(0.5), ms(0.99), ms(1)}
}

// Usage is the use of resources by processes. A figure without a base, such as the CPU time per
// delivery without deliveries, is 0.
type Usage struct {
	Ramp          Seconds `json:"ramp_cpu_s"` // CPU time, user and system, in the ramp phase
	Steady        Seconds `json:"steady_cpu_s"`
	PerJoin       float64 `json:"cpu_per_join_us"`     // ramp phase, in microseconds
	PerDelivery   float64 `json:"cpu_per_delivery_us"` // steady phase, in microseconds
	Memory        int64   `json:"memory_bytes"`        // resident set at the end of the steady phase
	PerConnection int64   `json:"memory_per_connection_bytes"`
}

// usageFrom returns the usage from the figures at the start, the end of the ramp phase, and the end
// of the steady phase.
func usageFrom(at [3]usage, connections int, deliveries int64) *Usage {
	before, ramped, end := at[0], at[1], at[2]
	u := &Usage{
		Ramp: secondsOf(ramped.cpu - before.cpu), Steady: secondsOf(end.cpu - ramped.cpu), Memory: end.rss,
	}
	if connections > 0 {
		u.PerJoin = float64((ramped.cpu - before.cpu).Microseconds()) / float64(connections)
		u.PerConnection = (end.rss - before.rss) / int64(connections)
	}
	if deliveries > 0 {
		u.PerDelivery = float64((end.cpu - ramped.cpu).Microseconds()) / float64(deliveries)
	}
	return u
}

// Err returns an error unless each client was connected at the end, and all messages arrived once
// and in order, and all user counts were right. It also returns one if requests with messages
// failed, and the server accepted no message: the run has then checked none.
func (r *Report) Err() error {
	var faults []error
	fault := func(n int64, text string) {
		if n > 0 {
			faults = append(faults, fmt.Errorf("%d %s", n, text))
		}
	}
	fault(int64(r.Clients-r.Connected), "clients not connected at the end")
	if refused := 0; r.Accepted == 0 {
		for _, n := range r.Refused {
			refused += n
		}
		fault(int64(refused), "requests with messages failed, and none was accepted")
	}
	fault(r.Lost, "messages lost")
	fault(r.Duplicated, "messages duplicated")
	fault(r.OutOfOrder, "messages out of order")
	fault(r.Strays, "messages of another room")
	if r.Counts != nil {
		fault(int64(r.Counts.Wrong), "user counts wrong")
	}
	if r.ServerGone != "" {
		faults = append(faults, fmt.Errorf("server process ended: %s", r.ServerGone))
	}
	return errors.Join(faults...)
}
