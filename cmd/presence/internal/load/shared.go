package load

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// phase is a part of a run.
type phase int32

const (
	ramp   phase = iota
	steady       // messages and churn
	drain        // the last messages arrive
	settle       // the user counts are compared
)

func (p phase) String() string { return [...]string{"ramp", "steady", "drain", "settle"}[p] }

// shared is the state of a run that all its goroutines share.
type shared struct {
	Config
	start     time.Time
	prefix    []byte      // of the messages
	addresses []net.Addr  // that accept connections, at least one
	tls       *tls.Config // nil for plain HTTP
	shards    int         // the number of loops
	rooms     []*room
	phase     atomic.Int32
	steady    atomic.Int64 // start of the steady phase, since start
}

// now returns the time since the start of the run.
func (s *shared) now() time.Duration { return time.Since(s.start) }

func (s *shared) phaseNow() phase { return phase(s.phase.Load()) }

func (s *shared) steadyAt() time.Duration { return time.Duration(s.steady.Load()) }

// addressOf returns the address that a client connects to.
func (s *shared) addressOf(c int) net.Addr { return s.addresses[c%len(s.addresses)] }

// shard is the state that the clients of one loop share.
type shard struct {
	*shared

	mu    sync.Mutex // guards the fields below, and the clients
	now   time.Duration
	phase phase
	stats stats
}
