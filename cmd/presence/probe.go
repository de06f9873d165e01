package main

import "time"

// The health check must work when clients hold every descriptor, with settings from flags, which
// another process cannot see, and in an image without a shell. So each server has a datagram socket
// in Linux's abstract namespace (unix(7)), which needs no file and, unlike a connection, no
// descriptor per check. Its name holds the process id and the address:
//
//	@presence-health/1/[::]:8080
//
// The server answers a datagram of any content with the status of GET /healthz.

// probeTime is the time limit of a health check: less than the 3 s of the image's HEALTHCHECK, as the
// process itself takes a moment.
const probeTime = 3*time.Second - 200*time.Millisecond
