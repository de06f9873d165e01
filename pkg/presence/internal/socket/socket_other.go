//go:build !linux

package socket

import "time"

// Known reports whether this system provides the statistics of a [Liveness].
const Known = false

// Tune does nothing on this system.
func Tune(uintptr) {}

// Multipath always returns false.
func Multipath(uintptr) bool { return false }

// ReadLiveness returns the zero Liveness.
func ReadLiveness(uintptr) Liveness { return Liveness{} }

// ShutUnread always returns true, because the close that follows sends the FIN.
func ShutUnread(uintptr) bool { return true }

func shut(fd uintptr, delivery, fin time.Duration) {}
func discardOnClose(uintptr)                       {}
