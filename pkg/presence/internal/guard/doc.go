// Package guard limits the connections, memory and time that clients can use with requests that are
// not event streams. Package presence uses it for every request. It knows no rooms and no users.
//
// # Deadlines of a request
//
// Each handler begins with [Guard.Begin], which sets the deadlines of its request:
//
//   - A request body must arrive within 10 s.
//   - A response ends if the peer acknowledged less than 8 KiB in the last 15 s.
//   - A response ends 5 minutes after it began, plus 1 s per 4 KiB of its size.
//
// The kernel reports the acknowledged bytes on Linux, for connections of a listener of
// [Guard.Harden]. A sweep checks all of these once per second, including the responses that
// net/http writes itself. Elsewhere the measure of progress is the data that the kernel accepts: at
// least 8 KiB in 30 s, or in 15 s over HTTP/2.
//
// # Eviction of connections
//
// Harden also limits the number of connections (Config.MaxIdle). A connection that carries an event
// stream is not counted. At the limit a new connection evicts another one, in this order:
//
//  1. unfinished: it has never sent a whole request.
//  2. It is idle for over 5 s.
//  3. partial: it is in the middle of the header or body of a later request.
//  4. lazy: it acknowledged less than 32 KiB of its responses in the last 15 s.
//  5. It is idle after its only request.
//  6. It is idle after several requests, as the connections of a proxy may be. It is spared while
//     another connection is of phase 1 or 3 but too young to be evicted.
//
// Within a phase the oldest connection goes first. It must have been in its phase for this time:
//
//	phase     usually   in a flood   in a flood, over TLS
//	1, 3, 5   1 s       50 ms        300 ms
//	2, 4      0         0            0
//	6         1 s       1 s          1 s
//
// If no connection can be evicted, the new one waits in the accept queue.
//
// A connection is busy, not idle, until the peer has acknowledged everything. Only then does
// [Conn.Close] end it. A busy connection is never evicted, unless it is lazy.
//
// # Storms of requests
//
// While more than 64 connections carry no stream, accepting yields to them. So a storm of joins
// uses the memory of some hundred requests, not of MaxIdle.
//
// A response never announces Connection: close because the limit is near. If the header came too
// late, a proxy with a connection pool would respond to a POST with 502.
package guard
