package presence

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"example.com/presence/pkg/presence/internal/loglimit"
	"example.com/presence/pkg/presence/internal/stream"
)

// shared is what all rooms have in common. It knows none of them.
type shared struct {
	config  Config
	log     *slog.Logger
	warn    *loglimit.Limiter
	streams *stream.Streams
	epoch   string // of all ids: drawn at the start, as no message outlives the process
	conns   connections
	memory  memory
	hooks   hooks
	running sync.WaitGroup // connections that were counted in, hooks that run, sweep
	syncs   atomic.Uint64  // how often the state of a room was encoded
}
