package hub

import "time"

// Clock is the time of one hub. Several hubs in one test have clocks of their own.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own after d, unless the timer was stopped.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call that [Clock.AfterFunc] has scheduled, as a [time.Timer].
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// system is the clock of package time.
type system struct{}

func (system) Now() time.Time                            { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
