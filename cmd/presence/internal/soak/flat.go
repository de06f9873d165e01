package soak

import (
	"fmt"
	"slices"
	"time"
)

// Server is a server with its samples, in the order of time.
type Server struct {
	Name    string
	Samples []Sample
	Warm    time.Duration // samples of a life before this age are not judged
	Limits  Limits
}

// Limits is how much a server may grow between the first and the last third of a life.
type Limits struct {
	Goroutines  float64
	Descriptors float64 // in addition to one for each connected client
	// Heap and RSS are shares of the first third, such as 0.05. 0: not judged.
	Heap float64
	RSS  float64
}

// fewest is the minimum number of samples of a life that is judged: three in each third.
const fewest = 9

// Growth is how much a server has grown in one life, by the measure and unit of [Limits].
type Growth struct {
	Life int
	Limits
}

// Growths returns the growth of each life that has enough samples.
func (s *Server) Growths() (all []Growth) {
	for _, life := range s.lives() {
		begin := life[0].At.Add(s.Warm)
		judged := slices.DeleteFunc(slices.Clone(life), func(p Sample) bool { return p.At.Before(begin) })
		if len(judged) < fewest {
			continue
		}
		g := Growth{Life: judged[0].Life}
		_, g.Goroutines = grown(judged, func(p Sample) float64 { return p.Goroutines })
		_, g.Descriptors = grown(judged, func(p Sample) float64 { return p.Descriptors - p.Clients })
		g.Heap = share(grown(judged, func(p Sample) float64 { return p.Heap }))
		g.RSS = share(grown(judged, func(p Sample) float64 { return p.RSS }))
		all = append(all, g)
	}
	return all
}

// lives splits the samples by life.
func (s *Server) lives() (lives [][]Sample) {
	for i, p := range s.Samples {
		if i == 0 || p.Life != s.Samples[i-1].Life {
			lives = append(lives, nil)
		}
		last := len(lives) - 1
		lives[last] = append(lives[last], p)
	}
	return lives
}

// Judge returns a text for each limit that the server has exceeded in one of its lives.
func (s *Server) Judge() (faults []string) {
	for _, g := range s.Growths() {
		for _, f := range []struct {
			series       string
			grown, limit float64
			unit         float64
			format       string
		}{
			{"goroutines", g.Goroutines, s.Limits.Goroutines, 1, "%.0f"},
			{"descriptors beside one per client", g.Descriptors, s.Limits.Descriptors, 1, "%.0f"},
			{"live heap", g.Heap, s.Limits.Heap, 100, "%.1f %%"},
			{"resident set", g.RSS, s.Limits.RSS, 100, "%.1f %%"},
		} {
			judged := f.limit > 0 || f.unit == 1
			if judged && f.grown > f.limit {
				faults = append(faults, fmt.Sprintf("%s, life %d: %s grown by "+f.format+", want at most "+f.format,
					s.Name, g.Life, f.series, f.unit*f.grown, f.unit*f.limit))
			}
		}
	}
	return faults
}

// grown returns the median of the first third of a series, and by how much that of the last third
// is larger. A median ignores single outliers, and the middle third keeps the two apart, so that a
// wave of the load does not look like growth.
func grown(samples []Sample, value func(Sample) float64) (first, growth float64) {
	third := len(samples) / 3
	first = median(samples[:third], value)
	return first, median(samples[len(samples)-third:], value) - first
}

func share(first, growth float64) float64 {
	if first == 0 {
		return 0
	}
	return growth / first
}

// median returns the upper median of a value; 0 for no samples.
func median(samples []Sample, value func(Sample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	var all []float64
	for _, p := range samples {
		all = append(all, value(p))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
