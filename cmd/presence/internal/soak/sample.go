// Package soak judges a soak: a test in which servers run under load for a long time. It decides
// from samples of their metrics whether a server is flat, which means that its goroutines,
// descriptors and memory do not grow, and it formats the samples as tables.
//
// From the bottom up: sample.go reads a [Sample] from metrics, flat.go judges the samples of a
// [Server], and table.go formats them. All functions depend on the samples alone.
//
// The package is for tests. It imports only the standard library.
package soak

import "time"

// Sample is the state of a server process at one time.
type Sample struct {
	At      time.Time
	Life    int // how often the server was started before: a restart begins another process
	Section int // part of the soak, from 0

	Clients     float64 // connected
	Goroutines  float64
	Descriptors float64
	RSS         float64 // resident set in bytes
	Heap        float64 // live heap after the last garbage collection, in bytes

	// These totals begin with 0 in each life.
	Joins      float64 // opened streams
	Deliveries float64
	CPU        float64 // in seconds
}

// Read returns the sample of the metrics of a server, which are the values by series.
func Read(metrics map[string]float64, at time.Time) Sample {
	return Sample{
		At:          at,
		Clients:     metrics["presence_connections"],
		Goroutines:  metrics["go_goroutines"],
		Descriptors: metrics["process_open_fds"],
		RSS:         metrics["process_resident_memory_bytes"],
		Heap:        liveHeap(metrics),
		Joins:       metrics["presence_streams_opened_total"],
		Deliveries:  metrics["presence_deliveries_total"],
		CPU:         metrics["process_cpu_seconds_total"],
	}
}

// liveHeap returns the size of the live heap after the last garbage collection. The runtime does
// not export it, but sets the size at which the next collection begins from it: live heap + (live
// heap + stacks + globals) * GOGC / 100 (https://go.dev/doc/gc-guide#GOGC). The globals are not
// known. Without them the result is too large by a constant below 1 MB.
func liveHeap(metrics map[string]float64) float64 {
	growth := metrics["go_gc_gogc_percent"] / 100
	return (metrics["go_memstats_next_gc_bytes"] - growth*metrics["go_memstats_stack_inuse_bytes"]) / (1 + growth)
}
