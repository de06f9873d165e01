package soak

import (
	"fmt"
	"strings"
	"time"
)

// Table formats the samples of servers as a table in Markdown, with one row for each server and
// section. Clients, goroutines, descriptors and memory are medians, joins and deliveries are sums.
func Table(servers []*Server) string {
	var b strings.Builder
	b.WriteString("| server | minutes | starts | clients | joins | deliveries | goroutines | descriptors | RSS MB | live heap MB | CPU % |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, s := range servers {
		if len(s.Samples) == 0 {
			continue
		}
		began := s.Samples[0].At
		for section := range s.Samples[len(s.Samples)-1].Section + 1 {
			row(&b, s, section, began)
		}
	}
	return b.String()
}

func row(b *strings.Builder, s *Server, section int, began time.Time) {
	var in []Sample
	var joins, deliveries, cpu float64
	var watched time.Duration
	starts := 0
	for i, p := range s.Samples {
		if p.Section != section {
			continue
		}
		in = append(in, p)
		before := Sample{At: p.At} // of the first sample of a life
		if i > 0 && p.Life == s.Samples[i-1].Life {
			before = s.Samples[i-1]
		} else if starts++; i == 0 {
			before = p // the clients joined before the first sample
		}
		joins += p.Joins - before.Joins
		deliveries += p.Deliveries - before.Deliveries
		if before.CPU > 0 {
			cpu += p.CPU - before.CPU
			watched += p.At.Sub(before.At)
		}
	}
	if len(in) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s | %.1f | %d | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %.1f | %.0f |\n",
		s.Name, in[len(in)-1].At.Sub(began).Minutes(), starts,
		median(in, func(p Sample) float64 { return p.Clients }), joins, deliveries,
		median(in, func(p Sample) float64 { return p.Goroutines }),
		median(in, func(p Sample) float64 { return p.Descriptors }),
		median(in, func(p Sample) float64 { return p.RSS })/1e6,
		median(in, func(p Sample) float64 { return p.Heap })/1e6,
		100*cpu/max(watched.Seconds(), 1e-9))
}

// GrowthTable formats the growth of servers as a table in Markdown. A server that was restarted has
// the largest growth of its lives. A dash is a limit that is not judged.
func GrowthTable(servers []*Server) string {
	var b strings.Builder
	b.WriteString("| server | judged processes | goroutines | limit | descriptors beside clients | limit | live heap | limit | RSS | limit |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, s := range servers {
		all := s.Growths()
		if len(all) == 0 {
			continue
		}
		most := all[0].Limits
		for _, g := range all[1:] {
			most = Limits{max(most.Goroutines, g.Goroutines), max(most.Descriptors, g.Descriptors), max(most.Heap, g.Heap), max(most.RSS, g.RSS)}
		}
		fmt.Fprintf(&b, "| %s | %d | %+.0f | %.0f | %+.0f | %.0f | %s | %s |\n", s.Name, len(all), most.Goroutines, s.Limits.Goroutines,
			most.Descriptors, s.Limits.Descriptors, percent(most.Heap, s.Limits.Heap), percent(most.RSS, s.Limits.RSS))
	}
	return b.String()
}

// percent formats a growth and its limit as two cells.
func percent(growth, limit float64) string {
	if limit == 0 {
		return "– | –"
	}
	return fmt.Sprintf("%+.1f %% | %.0f %%", 100*growth, 100*limit)
}
