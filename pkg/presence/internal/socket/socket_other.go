//go:build !linux

package socket

// Known reports whether this system has the figures of a [Pulse].
const Known = false

// Tune leaves the socket as it is.
func Tune(uintptr) {}

// Feel returns the zero Pulse.
func Feel(uintptr) Pulse { return Pulse{} }

// ShutUnread reports true: the close that follows does it.
func ShutUnread(uintptr) bool { return true }

func shut(uintptr) {}
func cut(uintptr)  {}
