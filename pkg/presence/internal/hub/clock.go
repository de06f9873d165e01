package hub

import "time"

// Clock is the source of time of one hub. In a test each hub can have its own clock.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d, unless the timer was stopped.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call that [Clock.AfterFunc] has scheduled. Its methods are those of a [time.Timer].
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// system is the clock of package time.
type system struct{}

func (system) Now() time.Time                            { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
