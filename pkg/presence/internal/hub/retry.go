package hub

import (
	"context"
	"errors"
	"time"

	"example.com/presence/pkg/presence/backplane"
	"example.com/presence/pkg/presence/room"
)

const (
	// openTime is the timeout of the backplane calls that open a room, and the least time of a
	// read of a gap.
	openTime = 2 * time.Second
	// firstPause is the pause before the second attempt to read a gap. It doubles each time.
	firstPause = 250 * time.Millisecond
	// repairTime is the time for which the reads of a gap may fail while the engine is connected.
	// After that, every client is sent reset. While it is not connected, no message arrives, and
	// the room waits. One read may take all of it: over a network that needs 0.4 s for a request
	// and its answer, a read of 350 messages takes 3.2 s.
	repairTime = 6 * time.Second
)

// readGap reads a gap. complete is false if messages of the gap are missing.
//
// If other nodes use the log, readGap repeats the read until the result is usable: see
// [counter.usable]. It gives up, with complete set to false, if
//
//   - two results in a row are not complete: the log has lost messages of the gap,
//   - the reads have failed for repairTime while the engine was connected,
//   - more than Config.RingMessages messages are held back, or
//   - the bus or the room is closed.
//
// If the subscription is interrupted meanwhile, g becomes the next gap and the attempts start
// again. For a room that was opened without its position, readGap asks for that position instead.
func (c *counter) readGap(g *gap) (entries []backplane.Entry, complete bool) {
	if c.log == nil {
		entries, complete, err := c.attempt(g, openTime)
		return entries, complete && err == nil
	}
	t := tries{delay: firstPause}
	for c.continues(g) {
		if g.renewed {
			g.renewed, t = false, tries{delay: firstPause}
		}
		if c.shared.config.Bus.Status().Connected {
			release := c.shared.reads.take()
			entries, complete, err := c.attempt(g, t.begin(c.shared.config.Clock.Now()))
			release()
			if g.compares && g.suspect == 0 && (err != nil || !complete) {
				return nil, true // the read was only a precaution
			}
			if c.usable(g, entries, complete, err) {
				return entries, true
			}
			if t.failed(c.shared.config.Clock.Now(), complete, err) && !g.blind {
				return entries, false
			}
		} else {
			t.since = time.Time{}
		}
		c.pauseRepair(t.delay)
		t.delay = min(2*t.delay, maxPause)
	}
	return nil, false
}

// tries decides when the attempts to read a gap end.
type tries struct {
	delay      time.Duration // before the next attempt
	since      time.Time     // when the first attempt began while the engine was connected; zero: none
	incomplete bool          // the last result was not complete
}

// failed records a failed attempt. It reports whether it was the last one.
func (t *tries) failed(now time.Time, complete bool, err error) bool {
	again := t.incomplete
	t.incomplete = err == nil && !complete
	return errors.Is(err, backplane.ErrClosed) || again && t.incomplete || now.Sub(t.since) >= repairTime
}

// begin records that an attempt begins, and returns its timeout.
func (t *tries) begin(now time.Time) time.Duration {
	if t.since.IsZero() {
		t.since = now
	}
	return max(openTime, repairTime-now.Sub(t.since))
}

// attempt makes one read of a gap, with a timeout. A result that may belong to another epoch is an
// error, and the subscription then reports the new epoch.
func (c *counter) attempt(g *gap, limit time.Duration) (entries []backplane.Entry, complete bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	bus := c.shared.config.Bus
	if epoch := bus.Status().Epoch; g.blind {
		last, err := bus.Last(ctx, c.name)
		g.found = room.Position{Epoch: epoch, Seq: last}
		if err == nil && bus.Status().Epoch != epoch {
			err = errEpoch
		}
		return nil, true, err
	}
	entries, complete, err = bus.Read(ctx, c.name, g.after)
	if err == nil && !complete && len(entries) == 0 && c.skips() {
		g.last, err = bus.Last(ctx, c.name)
	}
	if err == nil && c.log != nil && bus.Status().Epoch != g.epoch {
		entries, complete, err = nil, false, errEpoch
	}
	if err != nil {
		c.shared.config.Warn.Warn(ctx, "message log read failed", "room", string(c.name), "err", err)
	}
	return entries, complete, err
}

// skips reports whether the room needs the end of the log to skip to the announced position, if the
// log has no entry of a gap. It does not if a message is held back, because the log has reached it.
func (c *counter) skips() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log != nil && c.log.announced > c.position.Seq && len(c.waits.held) == 0
}

// errEpoch means that the log was recreated during a call.
var errEpoch = errors.New("message log recreated")

// continues reports whether the repair goes on. If the subscription was interrupted, g becomes the
// next gap.
func (c *counter) continues(g *gap) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log.overflow {
		return false
	}
	if c.waits.again {
		*g = *c.gapLocked()
		g.renewed = true
	}
	return true
}

// usable reports whether a result is complete and recent enough. A log that is read from a copy may
// answer as of an earlier moment. Therefore, the result must reach the first held message: every
// message before that one is then in the result, and every message after it was delivered. It must
// also reach the messages that were held before the subscription was interrupted again.
//
// If the result does not reach the announced position, another repair follows.
func (c *counter) usable(g *gap, entries []backplane.Entry, complete bool, err error) bool {
	if err != nil || !complete {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	end := g.after
	if len(entries) > 0 {
		end = entries[len(entries)-1].Position
	}
	held := c.waits.held
	return g.blind || g.compares || end >= c.log.must && (len(held) == 0 || end >= held[0].Position)
}

// pauseRepair waits until the delay has passed, or until the repair must look at the room again.
func (c *counter) pauseRepair(delay time.Duration) {
	ctx, wake := context.WithCancel(context.Background())
	defer wake()
	c.mu.Lock()
	urgent := c.closed || c.log.overflow || c.waits.again
	c.log.wake = wake
	c.mu.Unlock()
	if !urgent {
		pause(ctx, c.shared.config.Clock, delay)
	}
}
