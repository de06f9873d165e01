//go:build !linux

package socket

import "time"

// Known reports whether this system provides the figures of a [Pulse].
const Known = false

// Tune does nothing.
func Tune(uintptr) {}

// ReadPulse returns the zero Pulse.
func ReadPulse(uintptr) Pulse { return Pulse{} }

// ShutUnread reports true. The close that follows sends the end of the stream.
func ShutUnread(uintptr) bool { return true }

func shut(fd uintptr, delivery, fin time.Duration) {}
func discardOnClose(uintptr)                       {}
