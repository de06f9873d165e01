//go:build unix

package main

import "syscall"

// openFiles is how many files the process may have open, which Go has raised as
// far as it may be; 0 if that cannot be said.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
