package main

import (
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The runtime collects garbage when the heap has grown by a fraction of itself, else every 2
// minutes. It returns free memory to the system slowly. After a storm of joins a quiet process
// allocates almost nothing, so it would keep the memory of the storm for minutes. A memoryReleaser
// returns that memory within seconds.

const (
	// memoryTick is the time between two reads of the memory figures.
	memoryTick = time.Second
	// quietTicks is the number of consecutive quiet ticks before a release. A storm comes in waves:
	// clients whose connection request was lost repeat it after a second.
	quietTicks = 2
	// quietTime is how long the released memory must stay unused at the current allocation rate.
	// Otherwise the tick is not quiet.
	quietTime = 10 * time.Second
	// leastRelease is the minimum gain of a release, in bytes.
	leastRelease = 4 << 20
	// leastPart is the minimum gain as a fraction of the live heap: 1/leastPart. A release marks
	// the whole live heap, so its CPU cost is proportional to it.
	leastPart = 8
	// leastPause is the minimum time between two releases.
	leastPause = 5 * time.Second
	// pausePart is that minimum as a multiple of the duration of the last release. So releases take
	// at most 0.5 % of the machine. A forced collection uses all idle cores.
	pausePart = 200
)

// memoryUse holds figures of the runtime, in bytes.
type memoryUse struct {
	allocated  uint64 // total since the start of the process
	live       uint64 // heap in use at the last collection; too high after a mass leave
	held       uint64 // heap and stacks that the system backs with memory
	goroutines uint64
}

// slack returns the held memory that was not live: garbage, memory allocated since the last
// collection, free memory, stacks and fragmentation.
func (u memoryUse) slack() uint64 { return u.held - min(u.held, u.live) }

// releases decides when memory is released. It has no clock and no lock. Only one goroutine uses
// it.
type releases struct {
	last  memoryUse // figures of the last tick
	rest  uint64    // slack that a release does not return: stacks, fragmentation
	had   uint64    // goroutines after the last release, whose stacks are in rest
	quiet int       // consecutive quiet ticks
	next  time.Time // earliest time of the next release
}

// due records the figures of a tick and reports whether to release memory now.
func (r *releases) due(u memoryUse, now time.Time) bool {
	grown := u.allocated - r.last.allocated
	r.last = u
	if r.rest = min(r.rest, u.slack()); u.goroutines < r.had/2 {
		r.rest = 0 // many TLS or HTTP/2 streams have ended, which allocates nothing
	}
	gain := u.slack() - r.rest
	if gain < max(leastRelease, u.live/leastPart) || grown*uint64(quietTime/memoryTick) > gain {
		r.quiet = 0
		return false
	}
	r.quiet++
	return r.quiet >= quietTicks && !now.Before(r.next)
}

// done records the figures after a release that ended at now and lasted took.
func (r *releases) done(u memoryUse, now time.Time, took time.Duration) {
	*r = releases{last: u, rest: u.slack(), had: u.goroutines, next: now.Add(max(leastPause, pausePart*took))}
}

// memoryReleaser releases the memory of the process when a release is due.
type memoryReleaser struct {
	log     *slog.Logger
	stop    chan struct{}
	running sync.WaitGroup
}

// startReleasing starts a memoryReleaser. Its close stops it.
func startReleasing(log *slog.Logger) *memoryReleaser {
	r := &memoryReleaser{log: log, stop: make(chan struct{})}
	r.running.Go(r.run) // ended by close
	return r
}

func (r *memoryReleaser) close() {
	close(r.stop)
	r.running.Wait()
}

func (r *memoryReleaser) run() {
	ticks := time.NewTicker(memoryTick)
	defer ticks.Stop()
	var decide releases
	for {
		select {
		case <-ticks.C:
		case <-r.stop:
			return
		}
		began, before := time.Now(), readMemory()
		if !decide.due(before, began) {
			continue
		}
		debug.FreeOSMemory()
		now, after := time.Now(), readMemory()
		decide.done(after, now, now.Sub(began))
		r.log.Debug("memory released", "bytes", before.held-min(before.held, after.held), "held", after.held, "took", now.Sub(began))
	}
}

// readMemory returns the current figures. It does not stop the world.
func readMemory() memoryUse {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(samples)
	u := memoryUse{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(), goroutines: samples[2].Value.Uint64()}
	for _, s := range samples[3:] {
		u.held += s.Value.Uint64()
	}
	return u
}
