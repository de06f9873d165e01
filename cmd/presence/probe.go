package main

import "time"

// The health check must work in three hard cases:
//
//   - Clients hold every file descriptor.
//   - The server's settings come from flags, which another process cannot see.
//   - The image has no shell.
//
// So each server has a datagram socket in Linux's abstract namespace (unix(7)). It needs no file
// and, unlike a connection, no file descriptor per check. Its name holds the process id and the
// address:
//
//	@presence-health/1/[::]:8080
//
// The server answers any datagram with the status of GET /healthz.

// probeTime is the time limit of a health check. It is less than the 3 s of the image's
// HEALTHCHECK, because the start of the process takes some time too.
const probeTime = 3*time.Second - 200*time.Millisecond
