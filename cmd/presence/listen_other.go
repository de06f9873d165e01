//go:build !linux

package main

import (
	"syscall"
	"time"
)

// unacked does nothing: it is left to the system when it gives up a peer that
// answers nothing.
func unacked(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
