//go:build linux

package presence_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMixed measures how much a room of 15,000 delays a hundred rooms of ten on the same
// server, in ms. The target for the p99 of messages and of joins is 3 times the value without the
// large room.
//
//	room    load, per second         measured
//	small   50 messages              from before the POST to each client of the room
//	small   20 joins                 from before connect(2) to the first user count
//	large   1 message, 20 joins,     nothing
//	        20 leaves
//
// One server hosts the small rooms and the large room, the other server only the small rooms. They
// are measured alternately, and all processes of the server that is not measured are paused. The
// small rooms, the large room, and the visitors of each have their own load process, so that no
// measurement waits until 15,000 sockets are read. Run it with
//
//	make bench BENCH=Mixed
func BenchmarkMixed(b *testing.B) {
	const pairs, stay = 5, time.Second
	rooms, while := scaled(100), scaled(8*time.Second)
	post := order{Do: "post", Rate: 50, Time: while, Senders: 1, Size: text}
	visit := order{Do: "visit", Rate: 20, Time: while, Stay: stay}

	type site struct {
		processes []*process // the server, then its load processes
		orders    []order    // one for each load process
		large     bool
		measured  [6][]float64
	}
	start := func(large int) *site {
		s := startSide(b, "direct", rooms*10, order{Rooms: rooms, From: 20_000})
		b.Cleanup(s.end)
		inRooms := visit
		inRooms.Rooms = rooms
		h := &site{processes: []*process{s.process, s.load, startVisitors(b, s, inRooms)}, orders: []order{post, visit}, large: large > 0}
		if h.large {
			crowd := startProcess(b, "load")
			crowd.ask(order{Do: "open", Addr: s.addr, Clients: large, Until: counted})
			h.processes = append(h.processes, crowd, startVisitors(b, s, order{Rate: visit.Rate, Time: while, From: 200_000}))
			// With two senders, the load does not time the messages.
			h.orders = append(h.orders, order{Do: "post", Rate: 1, Time: max(while, 2*time.Second), Senders: 2, Size: text}, visit)
		}
		return h
	}
	without, with := start(0), start(scaled(15000))
	round := func(h, other *site) {
		for _, p := range other.processes {
			p.pause()
		}
		for _, p := range h.processes {
			p.resume()
		}
		loads := h.processes[1:]
		if h.large {
			loads[2].ask(order{Do: "serial", Messages: 1, Size: text}) // lets the server catch up after the pause
		}
		for i, p := range loads {
			p.send(h.orders[i])
		}
		for i, p := range loads {
			a := p.answer()
			if i < 2 { // the messages and the joins of the small rooms
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
	printTable(b, fmt.Sprintf("Mixed: %d rooms of ten, with and without a room of %d on the server, medians of %d alternating pairs", rooms, scaled(15000), pairs), rows)
}
