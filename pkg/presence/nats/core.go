package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/internal/loglimit"
)

// core is the state that all parts of a bus use.
type core struct {
	config   Config
	subjects subjects
	warn     *loglimit.Limiter
	life     context.Context // ends with Close
	end      context.CancelFunc
	running  sync.WaitGroup // the goroutines of the bus
	readOnly bool           // for Check: the stream and the bucket are not created or changed

	conn     *nats.Conn
	js       jetstream.JetStream
	stream   atomic.Pointer[jetstream.Stream] // nil before the first contact
	progress progress
	breaks   atomic.Uint64             // number of interruptions of the connection
	checked  atomic.Uint64             // value of breaks at the last check that succeeded
	brokeAt  atomic.Pointer[time.Time] // when the interruption was noticed; nil: there is none
	wake     chan struct{}             // makes the goroutine of the contact check now

	mu     sync.RWMutex // guards status; held by close
	status backplane.Status
}

func newCore(config Config) *core {
	c := &core{config: config, subjects: subjects{config.Prefix}, warn: loglimit.New(config.Log), wake: make(chan struct{}, 1)}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// close ends the life of the bus. It reports whether this is the first call.
func (c *core) close() (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = !c.isClosed()
	c.end()
	c.status.Connected = false
	return first
}

// goUnlessClosed starts a goroutine that Close waits for, unless the bus is closed.
func (c *core) goUnlessClosed(f func()) (started bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.isClosed() {
		return false
	}
	c.running.Go(f)
	return true
}

// Status returns the state of the contact. See [backplane.Bus].
func (c *core) Status() backplane.Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.status
}

// setStatus reports whether the status has changed.
func (c *core) setStatus(s backplane.Status) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = c.status != s
	c.status = s
	return changed
}

func (c *core) isClosed() bool { return c.life.Err() != nil }

// enter begins a call of a function of the owner, which Close waits for. The caller must call
// running.Done at its end. enter returns false if the bus is closed.
func (c *core) enter() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.isClosed() {
		return false
	}
	c.running.Add(1)
	return true
}

// doubt makes the goroutine of the contact check the stream and the bucket soon.
func (c *core) doubt() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// interrupted records that the connection was interrupted or re-established.
func (c *core) interrupted() {
	c.breaks.Add(1)
	c.noticed(time.Now())
	c.doubt()
}

// noticed records when an interruption was noticed. Later signs of it do not change the time.
func (c *core) noticed(at time.Time) { c.brokeAt.CompareAndSwap(nil, &at) }

// repaired forgets when the interruptions up to a value of breaks were noticed. It keeps the time
// if there was another one meanwhile: an early time is safe.
func (c *core) repaired(at *time.Time, breaks uint64) {
	if c.brokeAt.CompareAndSwap(at, nil) && c.breaks.Load() != breaks {
		c.brokeAt.CompareAndSwap(nil, at)
	}
}

// ready returns the epoch, for a call that needs the stream. The error is the cause of ctx,
// ErrClosed or ErrUnavailable.
func (c *core) ready(ctx context.Context) (epoch string, err error) {
	s := c.Status()
	switch {
	case c.isClosed():
		return "", backplane.ErrClosed
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case !s.Connected || c.breaks.Load() != c.checked.Load(): // the log may be another one
		return "", backplane.ErrUnavailable
	}
	return s.Epoch, nil
}

// connected returns an error unless the server is connected, for a call that does not need the
// stream.
func (c *core) connected(ctx context.Context) error {
	switch {
	case c.isClosed():
		return backplane.ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !c.conn.IsConnected():
		return backplane.ErrUnavailable
	}
	return nil
}

// isSingle reports whether the connected server belongs to no cluster. It is false without a
// server.
func (c *core) isSingle() bool { return c.conn.ConnectedClusterName() == "" && c.conn.IsConnected() }

// callError converts the error of a call.
func (c *core) callError(ctx context.Context, call string, err error) error {
	switch {
	case c.isClosed():
		return backplane.ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, backplane.ErrTableFull), errors.Is(err, backplane.ErrUnavailable):
		return err
	}
	return fmt.Errorf("nats: %s: %w: %w", call, backplane.ErrUnavailable, err)
}

// publishAcked publishes a message to the stream or the bucket and waits for the acknowledgement.
func (c *core) publishAcked(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ack, err := c.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		c.doubt() // the stream has no leader, or other subjects
	}
	return ack, err
}

// wait waits for the duration. It returns false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
