package soak_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/presence/cmd/presence/internal/soak"
)

var start = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// series returns a server with a sample each 5 s for half an hour, after change was applied to each
// flat one. change gets the share of the time that has passed, from 0 to 1.
func series(change func(p *soak.Sample, passed float64)) *soak.Server {
	const n = 360
	s := &soak.Server{Name: "s", Warm: 3 * time.Minute, Limits: soak.Limits{Goroutines: 10, Descriptors: 10, Heap: 0.05, RSS: 0.1}}
	for i := range n {
		passed := float64(i) / n
		p := soak.Sample{
			At:      start.Add(time.Duration(i) * 5 * time.Second),
			Section: i * 10 / n,
			Clients: 2000, Goroutines: 20, Descriptors: 2020, RSS: 40e6, Heap: 10e6,
			Joins: float64(2000 + 75*i), Deliveries: float64(1000 * i), CPU: 1 + 0.5*float64(i),
		}
		change(&p, passed)
		s.Samples = append(s.Samples, p)
	}
	return s
}

// A series that grows exceeds a limit. One with noise, waves, a step in the warm-up or a single
// outlier does not.
func TestJudge(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for name, c := range map[string]struct {
		change func(p *soak.Sample, passed float64)
		want   string // a part of the only text, or "": none
	}{
		"constant": {func(*soak.Sample, float64) {}, ""},
		"noise": {func(p *soak.Sample, _ float64) {
			p.Clients += float64(random.IntN(200))
			p.Descriptors = p.Clients + 20 + float64(random.IntN(20))
			p.Goroutines += float64(random.IntN(20))
			p.Heap *= 1 + 0.2*random.Float64()
			p.RSS *= 1 + 0.2*random.Float64()
		}, ""},
		"waves": {func(p *soak.Sample, passed float64) {
			p.Heap *= 1 + 0.2*math.Sin(20*math.Pi*passed)
			p.Goroutines += 15 * math.Sin(20*math.Pi*passed)
		}, ""},
		"more clients": {func(p *soak.Sample, passed float64) {
			p.Clients += 1000 * passed
			p.Descriptors += 1000 * passed
		}, ""},
		"growth in the warm-up": {func(p *soak.Sample, passed float64) {
			p.Heap *= 0.5 + 5*min(passed, 0.1)
			p.Goroutines += 500 * min(passed, 0.1)
		}, ""},
		"outliers": {func(p *soak.Sample, passed float64) {
			if passed > 0.95 {
				p.Heap, p.Goroutines, p.Descriptors = 10*p.Heap, 1000, 5000
			}
		}, ""},
		"shrinks": {func(p *soak.Sample, passed float64) { p.Heap *= 1 - passed/2 }, ""},
		"one goroutine per minute": {func(p *soak.Sample, passed float64) { p.Goroutines += 30 * passed },
			"goroutines grown by 18, want at most 10"},
		"one descriptor per minute": {func(p *soak.Sample, passed float64) { p.Descriptors += 30 * passed },
			"descriptors beside one per client grown by 18, want at most 10"},
		"50 bytes per join, with noise": {func(p *soak.Sample, passed float64) {
			p.Heap += 50 * p.Joins
			p.Heap *= 1 + 0.02*random.Float64()
		}, "live heap grown by "},
		"a kilobyte per join outside of the heap": {func(p *soak.Sample, passed float64) { p.RSS += 1e3 * p.Joins },
			"resident set grown by 33.2 %, want at most 10.0 %"},
	} {
		t.Run(name, func(t *testing.T) {
			got := series(c.change).Judge()
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Each life is judged by itself, without its own warm-up. A limit of 0 for memory is none. Too few
// samples are not judged.
func TestLives(t *testing.T) {
	change := func(p *soak.Sample, passed float64) {
		p.Life = int(4 * passed)
		p.Goroutines += 50 * float64(p.Life) // not growth
		p.Heap *= 1 + passed
		if p.Life == 2 {
			p.Descriptors += 200 * passed
		}
	}
	s := series(change)
	s.Limits.Heap = 0
	want := []string{"s, life 2: descriptors beside one per client grown by 20, want at most 10"}
	if got := s.Judge(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.Growths(); len(got) != 4 || got[3].Life != 3 {
		t.Errorf("got %v, want the growth of four lives", got)
	}
	s.Warm = 7 * time.Minute
	if got := s.Growths(); len(got) != 0 {
		t.Errorf("lives of 7.5 minutes with a warm-up of 7: got %v, want no growth", got)
	}
}

// The live heap follows from the goal of the next collection: (12 + (12 + 2) * 50 / 100) MB are 19
// MB.
func TestRead(t *testing.T) {
	got := soak.Read(map[string]float64{
		"presence_connections":           3,
		"go_goroutines":                  4,
		"process_open_fds":               5,
		"process_resident_memory_bytes":  6,
		"go_gc_gogc_percent":             50,
		"go_memstats_next_gc_bytes":      19e6,
		"go_memstats_stack_inuse_bytes":  2e6,
		"presence_streams_opened_total":  7,
		"presence_deliveries_total":      8,
		"process_cpu_seconds_total":      9,
		"presence_streams_unknown_total": 10,
	}, start)
	want := soak.Sample{At: start, Clients: 3, Goroutines: 4, Descriptors: 5, RSS: 6, Heap: 12e6, Joins: 7, Deliveries: 8, CPU: 9}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A row has the medians and sums of one section. The totals of a process that was restarted begin
// with 0 again.
func TestTable(t *testing.T) {
	at := func(seconds int, life, section int, joins, cpu float64) soak.Sample {
		return soak.Sample{
			At: start.Add(time.Duration(seconds) * time.Second), Life: life, Section: section,
			Clients: float64(seconds), Goroutines: 20, Descriptors: 30, RSS: 40e6, Heap: 5.54e6, Joins: joins, Deliveries: 10 * joins, CPU: cpu,
		}
	}
	s := &soak.Server{Name: "n", Samples: []soak.Sample{
		at(0, 0, 0, 100, 1), at(10, 0, 0, 150, 3), at(20, 0, 0, 160, 5),
		at(30, 0, 1, 170, 7), at(50, 1, 1, 5, 0.5), at(60, 1, 1, 25, 1.5),
	}}
	got := soak.Table([]*soak.Server{{Name: "none"}, s})
	want := "| n | 0.3 | 1 | 10 | 60 | 600 | 20 | 30 | 40.0 | 5.5 | 20 |\n" +
		"| n | 1.0 | 1 | 50 | 35 | 350 | 20 | 30 | 40.0 | 5.5 | 15 |\n"
	if _, rows, _ := strings.Cut(got, "--:|\n"); rows != want {
		t.Errorf("got\n%s\nwant the rows\n%s", got, want)
	}
}

func TestGrowthTable(t *testing.T) {
	s := series(func(p *soak.Sample, passed float64) {
		p.Life = int(2 * passed)
		p.Goroutines += 30 * passed * float64(p.Life)
		p.Heap *= 1 + passed/10
	})
	s.Limits.RSS = 0
	got := soak.GrowthTable([]*soak.Server{{Name: "none"}, s})
	const want = "| s | 2 | +8 | 10 | +0 | 10 | +2.6 % | 5 % | – | – |\n"
	if _, rows, _ := strings.Cut(got, "--:|\n"); rows != want {
		t.Errorf("got\n%s\nwant the row\n%s", got, want)
	}
}
