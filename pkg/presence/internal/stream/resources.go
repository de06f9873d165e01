package stream

import (
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// resources are what all connections of one [Streams] have in common.
type resources struct {
	config   Config
	opened   time.Time      // the start of the times that a pace is given
	ender    socket.Ender   // closes the sockets
	ended    *inbox[func()] // the ends of connections, reported by Streams.report
	open     sync.WaitGroup // connections that Streams.Close waits for
	liveness liveness       // of the clients of writers
}

// now returns the time since the streams were opened.
func (r *resources) now() time.Duration { return time.Since(r.opened) }

// reportEnd makes another goroutine call ended: one that may wait for locks, as no loop may.
func (r *resources) reportEnd(ended func(End), why End) { r.ended.add(func() { ended(why) }) }
