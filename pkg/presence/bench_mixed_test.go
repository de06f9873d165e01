//go:build linux

package presence_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMixed measures how a room of 15,000 delays a hundred rooms of ten on the same server. In
// the small rooms 50 messages per second are timed, from before the POST to each client of the room,
// and 20 joins per second, from before connect(2) to the first user count. In the large room there is
// a message per second, and 20 clients per second join and leave. The target for the p99 of both is
// 3 times the value without the large room.
//
// The large room is on one server, not on another, with the same small rooms. They are measured in
// turns; the processes of the other one are stopped meanwhile. Every room and its visitors have a
// load of their own, so that nothing waits for the reading of 15,000 sockets.
func BenchmarkMixed(b *testing.B) {
	const pairs, stay = 5, time.Second
	rooms, while := scaled(100), scaled(8*time.Second)
	post := order{Do: "post", Rate: 50, Time: while, Senders: 1, Size: text}
	visit := order{Do: "visit", Rate: 20, Time: while, Stay: stay}

	type house struct {
		processes []*process // all of them
		orders    []order    // for the processes after the server
		large     bool
		measured  [6][]float64
	}
	start := func(large int) *house {
		s := startSide(b, "direct", rooms*10, order{Rooms: rooms, From: 20_000})
		b.Cleanup(s.end)
		inRooms := visit
		inRooms.Rooms = rooms
		h := &house{processes: []*process{s.process, s.load, startVisitors(b, s, inRooms)}, orders: []order{post, visit}, large: large > 0}
		if h.large {
			crowd := startProcess(b, "load")
			crowd.ask(order{Do: "open", Addr: s.addr, Clients: large, Until: counted})
			h.processes = append(h.processes, crowd, startVisitors(b, s, order{Rate: visit.Rate, Time: while, From: 200_000}))
			// Two senders, as the way of these messages is not to be timed.
			h.orders = append(h.orders, order{Do: "post", Rate: 1, Time: max(while, 2*time.Second), Senders: 2, Size: text}, visit)
		}
		return h
	}
	without, with := start(0), start(scaled(15000))
	round := func(h, other *house) {
		for _, p := range other.processes {
			p.pause()
		}
		for _, p := range h.processes {
			p.resume()
		}
		loads := h.processes[1:]
		if h.large {
			loads[2].ask(order{Do: "say", Messages: 1, Size: text}) // the server catches up with the pause
		}
		for i, p := range loads {
			p.send(h.orders[i])
		}
		for i, p := range loads {
			a := p.answer()
			if i < 2 { // of the small rooms: the messages, the joins
				for j, t := range []time.Duration{a.P50, a.P99, a.Max} {
					h.measured[3*i+j] = append(h.measured[3*i+j], millis(t))
				}
			}
		}
	}
	for i := range pairs {
		if i%2 == 0 {
			round(without, with)
			round(with, without)
		} else {
			round(with, without)
			round(without, with)
		}
	}
	rows := []string{"\twithout ms\tquartiles\twith ms\tquartiles\twith/without\tquartiles"}
	for i, of := range []string{"messages p50", "p99", "max", "joins p50", "p99", "max"} {
		x, y := without.measured[i], with.measured[i]
		r := ratios(y, x)
		rows = append(rows, fmt.Sprintf("%s\t%.2f\t%s\t%.2f\t%s\t%.2f\t%s", of, median(x), quartiles(x), median(y), quartiles(y), median(r), quartiles(r)))
		if of == "p99" {
			b.ReportMetric(median(r), []string{"messages-p99", "joins-p99"}[i/3]+"-with/without")
		}
	}
	printTable(b, fmt.Sprintf("Mixed: %d rooms of ten, with and without one of %d beside them, medians of %d pairs in turns", rooms, scaled(15000), pairs), rows)
}
