//go:build linux

package presence_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkLeave measures the time from the close of one client until every other client of a room
// of 15,000 has the true count, in ms. Promise 1 allows 1 s.
//
//   - quiet: no client joined or left in the second before.
//   - interval: every client has just received a count, so a flush interval is running.
//   - burst: 50 clients join, and leave right before the measured client.
//
// For comparison, it also measures how long bare takes to send one message to the same number of
// clients. Run it with
//
//	make bench BENCH=Leave
func BenchmarkLeave(b *testing.B) {
	const burst = 50
	kinds := []string{"quiet", "interval", "burst"}
	trials := map[string]int{"quiet": 20, "interval": 100, "burst": 100}
	baseline := startSide(b, "bare", scaled(15000), order{})
	defer baseline.end()
	s := startSide(b, "direct", scaled(15000), order{Spare: burst})
	defer s.end()
	took, pass := map[string][]float64{}, []float64{}
	rounds := scaled(20)
	for range rounds {
		pass = append(pass, millis(baseline.load.ask(order{Do: "serial", Messages: 1, Size: text}).Mean))
		for _, kind := range kinds {
			for range scaled(trials[kind]) / rounds {
				o := order{Do: "leave"}
				switch kind {
				case "quiet":
					time.Sleep(time.Second) // "quiet" is a second without joins and leaves
				case "burst":
					o.Burst = burst
				}
				took[kind] = append(took[kind], millis(s.load.ask(o).Elapsed))
			}
		}
	}
	rows := []string{"\ttrials\tmedian ms\tquartiles\tp99 ms\tworst ms\twithin 1 s"}
	row := func(of string, ms []float64) {
		within := 0
		for _, m := range ms {
			if m <= 1000 {
				within++
			}
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%.1f\t%s\t%.1f\t%.1f\t%d", of, len(ms), median(ms), quartiles(ms), quantile(0.99, ms), quantile(1, ms), within))
	}
	for _, kind := range kinds {
		row(kind, took[kind])
		b.ReportMetric(quantile(1, took[kind]), kind+"-worst-ms")
	}
	row("bare: a message", pass)
	printTable(b, fmt.Sprintf("Leave: from the close of one client of %d until all other clients have the true count", s.clients), rows)
}
