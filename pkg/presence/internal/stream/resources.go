package stream

import (
	"sync"
	"sync/atomic"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// resources holds the state that all connections of one [Streams] share.
type resources struct {
	config  Config
	opened  time.Time      // the start of the clock of resources.now
	ender   socket.Ender   // closes the sockets
	ended   *inbox[func()] // ends of connections, for Streams.report
	open    sync.WaitGroup // counts the connections that Streams.Close waits for
	checker checker        // checks the clients of writers
	rings   rings          // the use of io_uring
	unsent  unsent         // the events in the backlogs of all streams

	// Of all writers, for Stats.
	written                  atomic.Uint64 // bytes
	backlogged, backlogBytes atomic.Int64
}

// now returns the time since the streams were opened.
func (r *resources) now() time.Duration { return time.Since(r.opened) }

// reportEnd makes the goroutine of Streams.report call ended, because ended may wait for locks and
// a loop must not wait.
func (r *resources) reportEnd(ended func(End), why End) { r.ended.add(func() { ended(why) }) }
