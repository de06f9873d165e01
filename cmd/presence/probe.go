package main

import "time"

// The health check must work even under these conditions:
//
//   - Clients hold every file descriptor.
//   - The settings of the server are flags, which another process cannot see.
//   - The image has no shell.
//
// Therefore each server opens a datagram socket in Linux's abstract namespace (unix(7)). It needs
// no file and, unlike a TCP connection, no file descriptor per check. Its name contains the process
// ID and the address:
//
//	@presence-health/1/[::]:8080
//	@presence-health/1/unix:/run/presence.sock
//
// The server replies to any datagram with the status of GET /healthz.

// probeTime is the timeout of a health check. It is shorter than the timeout of the image's
// HEALTHCHECK, 3 s, because starting the process takes time too.
const probeTime = 3*time.Second - 200*time.Millisecond
