package hub

import (
	"context"
	"time"
)

// Clock is the time source of a hub. Tests give each hub its own clock.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d, unless the timer is stopped before.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call scheduled by [Clock.AfterFunc]. Its methods behave like those of [time.Timer].
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// system implements Clock with package time.
type system struct{}

func (system) Now() time.Time                            { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// pause waits for d. It returns false if ctx ends first.
func pause(ctx context.Context, c Clock, d time.Duration) bool {
	elapsed := make(chan struct{})
	timer := c.AfterFunc(d, func() { close(elapsed) })
	defer timer.Stop()
	select {
	case <-elapsed:
		return true
	case <-ctx.Done():
		return false
	}
}

// earlier returns the earlier of two times. The zero time stands for no time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
