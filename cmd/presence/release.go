package main

import (
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The runtime collects garbage when the heap has grown by a part of itself, else every 2 minutes,
// and returns free memory to the system slowly. A process that has become quiet after a storm of
// joins allocates next to nothing, so it would keep the memory of the storm for minutes. A memory
// releaser returns that memory within seconds.

const (
	// memoryTick is the time between two looks at the memory.
	memoryTick = time.Second
	// quietTicks is how many ticks in a row must be quiet. A storm comes in waves: clients whose
	// connection request was lost repeat it after a second.
	quietTicks = 2
	// quietTime is how long the released memory must stay unused at the present rate of allocation;
	// else the tick is not quiet.
	quietTime = 10 * time.Second
	// leastRelease is the least memory in bytes that is worth a release.
	leastRelease = 4 << 20
	// leastPart is the least part of the live heap, as its divisor: a release marks the whole live
	// heap, and costs CPU in proportion to it.
	leastPart = 8
	// leastPause is the least time between two releases, and pausePart the same as a multiple of
	// the last one's duration, so that releases take at most 0.5 % of the machine: a collection that
	// is asked for uses all idle cores.
	leastPause = 5 * time.Second
	pausePart  = 200
)

// memoryUse holds figures of the runtime, in bytes.
type memoryUse struct {
	allocated  uint64 // since the start of the process
	live       uint64 // heap that the last collection found in use; after a mass leave too much
	held       uint64 // heap and stacks for which the system provides memory
	goroutines uint64
}

// slack returns how much more is held than was live: garbage, memory allocated since the last
// collection, free memory, stacks and fragmentation.
func (u memoryUse) slack() uint64 { return u.held - min(u.held, u.live) }

// releases decides when memory is released. It has no clock and no lock; one goroutine uses it.
type releases struct {
	last  memoryUse // at the last tick
	rest  uint64    // slack that a release does not return: stacks, fragmentation
	had   uint64    // goroutines after the last release, whose stacks are in rest
	quiet int       // quiet ticks in a row
	next  time.Time // no release before
}

// due takes the figures of a tick and reports whether memory is to be released now.
func (r *releases) due(u memoryUse, now time.Time) bool {
	grown := u.allocated - r.last.allocated
	r.last = u
	if r.rest = min(r.rest, u.slack()); u.goroutines < r.had/2 {
		r.rest = 0 // many streams of TLS or HTTP/2 have ended; nothing is allocated then
	}
	gain := u.slack() - r.rest
	if gain < max(leastRelease, u.live/leastPart) || grown*uint64(quietTime/memoryTick) > gain {
		r.quiet = 0
		return false
	}
	r.quiet++
	return r.quiet >= quietTicks && !now.Before(r.next)
}

// done takes the figures after a release, which ended now and took that long.
func (r *releases) done(u memoryUse, now time.Time, took time.Duration) {
	*r = releases{last: u, rest: u.slack(), had: u.goroutines, next: now.Add(max(leastPause, pausePart*took))}
}

// memoryReleaser releases the memory of the process whenever that is due.
type memoryReleaser struct {
	log     *slog.Logger
	stop    chan struct{}
	running sync.WaitGroup
}

// startReleasing starts a memoryReleaser, which ends with close.
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

// readMemory returns the figures of now. It does not stop the program.
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
