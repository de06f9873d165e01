package stream

import (
	"sync"
	"time"

	"example.com/presence/pkg/presence/internal/socket"
)

// resources are shared by all connections of one [Streams].
type resources struct {
	config  Config
	opened  time.Time      // time zero of resources.now
	ender   socket.Ender   // closes their sockets
	ended   *inbox[func()] // ends of connections, for Streams.report
	open    sync.WaitGroup // counts the connections that Streams.Close waits for
	checker checker        // checks the clients of writers
}

// now returns the time since the streams were opened.
func (r *resources) now() time.Duration { return time.Since(r.opened) }

// reportEnd makes another goroutine call ended, because it may wait for locks. A loop must not
// wait.
func (r *resources) reportEnd(ended func(End), why End) { r.ended.add(func() { ended(why) }) }
