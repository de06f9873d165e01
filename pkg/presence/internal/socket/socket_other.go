//go:build !linux

package socket

// Known reports whether this system has the figures of a [Pulse].
const Known = false

// Tune leaves the socket as it is.
func Tune(uintptr) {}

// Feel returns the zero Pulse.
func Feel(uintptr) Pulse { return Pulse{} }

// Unread reports false: unknown.
func Unread(uintptr) bool { return false }

func shut(uintptr) {}
func cut(uintptr)  {}
