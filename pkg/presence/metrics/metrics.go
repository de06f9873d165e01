package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/presence/pkg/presence"
)

// Metrics collects the metrics of a server. Create it with [New]. It implements
// [prometheus.Collector], and its methods are safe for concurrent use.
type Metrics struct {
	joinToCount, loopPass, roundTrip prometheus.Histogram
	server                           atomic.Pointer[presence.Server] // nil until Watch
}

// New returns metrics without a server.
func New() *Metrics {
	return &Metrics{
		joinToCount: histogram("join_to_count_seconds",
			"Time from a join until its user count was written to the clients of the room on this node. One observation per count and event loop, for the oldest join.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5),
		loopPass: histogram("loop_pass_seconds",
			"Duration of a turn of an event loop. Its clients wait meanwhile.",
			.00001, .00005, .0001, .0005, .001, .0025, .005, .01, .05, .1, .5, 1),
		roundTrip: histogram("backplane_round_trip_seconds",
			"Time from the publication of a heartbeat until this node has received it from the backplane.",
			.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5),
	}
}

// histogram returns a histogram with native buckets, each 10 % wide, and with these classic ones
// for a Prometheus server that does not collect native buckets.
func histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		Buckets:                         buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	})
}

// Observer returns the functions for [presence.Config].Observer.
func (m *Metrics) Observer() presence.Observer {
	observe := func(h prometheus.Histogram) func(time.Duration) {
		return func(d time.Duration) { h.Observe(d.Seconds()) }
	}
	return presence.Observer{JoinToCount: observe(m.joinToCount), LoopPass: observe(m.loopPass), RoundTrip: observe(m.roundTrip)}
}

// Watch sets the server whose statistics are collected. Before the first call, only the histograms
// are collected.
func (m *Metrics) Watch(s *presence.Server) { m.server.Store(s) }

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, h := range []prometheus.Histogram{m.joinToCount, m.loopPass, m.roundTrip} {
		h.Describe(descs)
	}
	for _, v := range values {
		descs <- v.desc
	}
	for _, v := range vectors {
		descs <- v.desc
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	for _, h := range []prometheus.Histogram{m.joinToCount, m.loopPass, m.roundTrip} {
		h.Collect(metrics)
	}
	server := m.server.Load()
	if server == nil {
		return
	}
	s := server.Stats()
	for _, v := range values {
		if n, ok := v.of(&s); ok {
			metrics <- prometheus.MustNewConstMetric(v.desc, v.kind, n)
		}
	}
	for _, v := range vectors {
		for label, n := range v.of(&s) {
			metrics <- prometheus.MustNewConstMetric(v.desc, v.kind, n, label)
		}
	}
}
