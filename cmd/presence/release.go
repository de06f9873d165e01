package main

import (
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The runtime collects garbage when the heap has grown by a fraction of its size, or else every 2
// minutes. It returns free memory to the system slowly. After a join burst, an idle process
// allocates almost nothing, so it would keep the memory of the burst for minutes. A memoryReleaser
// returns this memory within seconds.

const (
	// memoryTick is the interval at which the memory statistics are read.
	memoryTick = time.Second
	// idleTicks is the number of consecutive idle ticks before a release. One is not enough,
	// because a join burst arrives in waves: a client whose connection request was lost repeats it
	// after a second.
	idleTicks = 2
	// idleTime defines an idle tick: at its allocation rate, the memory to release would remain
	// unused for at least this time.
	idleTime = 10 * time.Second
	// leastRelease is the minimum gain of a release: the bytes that it returns to the system.
	leastRelease = 4 << 20
	// leastPart is the divisor of the minimum gain relative to the live heap: a release must return
	// at least 1/leastPart of the live heap. The minimum is relative, because a release marks the
	// whole live heap and so its CPU cost is proportional to the live heap.
	leastPart = 8
	// leastPause is the minimum pause between two releases.
	leastPause = 5 * time.Second
	// pausePart is the minimum pause as a multiple of the duration of the last release. It limits
	// releases to 0.5 % of the time, because a forced collection uses all idle cores of the
	// machine.
	pausePart = 200
)

// memoryUse holds memory statistics of the Go runtime. Sizes are in bytes.
type memoryUse struct {
	allocated  uint64 // total since the start of the process
	live       uint64 // live heap at the last collection; too high after many clients have left
	held       uint64 // heap and stack memory that is not released to the system
	goroutines uint64
}

// slack returns the part of the held memory that was not live: garbage, memory allocated since the
// last collection, free memory, stacks and fragmentation.
func (u memoryUse) slack() uint64 { return u.held - min(u.held, u.live) }

// releases decides when to release memory. It has no clock and no lock, so only one goroutine may
// use it.
type releases struct {
	last  memoryUse // statistics of the last tick
	rest  uint64    // slack that a release cannot return: stacks, fragmentation
	count uint64    // goroutines after the last release; rest includes their stacks
	idle  int       // consecutive idle ticks
	next  time.Time // earliest time of the next release
}

// due records the statistics of a tick and reports whether to release memory now.
func (r *releases) due(u memoryUse, now time.Time) bool {
	grown := u.allocated - r.last.allocated
	r.last = u
	if r.rest = min(r.rest, u.slack()); u.goroutines < r.count/2 {
		r.rest = 0 // many TLS or HTTP/2 streams have closed, so a release returns their stacks
	}
	gain := u.slack() - r.rest
	if gain < max(leastRelease, u.live/leastPart) || grown*uint64(idleTime/memoryTick) > gain {
		r.idle = 0
		return false
	}
	r.idle++
	return r.idle >= idleTicks && !now.Before(r.next)
}

// done records the statistics after a release that completed at now and lasted took.
func (r *releases) done(u memoryUse, now time.Time, took time.Duration) {
	*r = releases{last: u, rest: u.slack(), count: u.goroutines, next: now.Add(max(leastPause, pausePart*took))}
}

// memoryReleaser releases memory to the system whenever a release is due.
type memoryReleaser struct {
	log     *slog.Logger
	stop    chan struct{}
	running sync.WaitGroup
}

// startReleasing starts a memoryReleaser. The caller must call close.
func startReleasing(log *slog.Logger) *memoryReleaser {
	r := &memoryReleaser{log: log, stop: make(chan struct{})}
	r.running.Go(r.run) // ends with close
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

// readMemory returns the current statistics. It does not stop the world.
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
