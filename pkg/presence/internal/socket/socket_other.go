//go:build !linux

package socket

import "time"

// Known reports whether this system has the figures of a [Pulse].
const Known = false

// Tune does nothing.
func Tune(uintptr) {}

// ReadPulse returns the zero Pulse.
func ReadPulse(uintptr) Pulse { return Pulse{} }

// ShutUnread reports true: the close that follows does it.
func ShutUnread(uintptr) bool { return true }

func shut(fd uintptr, delivery, fin time.Duration) {}
func discardOnClose(uintptr)                       {}
