package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacked bounds how long what was sent may go without an answer from the
// peer's kernel: TCP_USER_TIMEOUT, tcp(7).
func unacked(limit time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return failed
	}
}
