// Package guard limits the connections, memory and time that clients can use with requests other
// than event streams. Package presence uses it for every request. It does not depend on rooms or
// users.
//
// # Request deadlines
//
// Package presence begins each request with [Guard.Begin], which sets the deadlines of the request:
//
//   - The request body must arrive within 10 s.
//   - The response is aborted if the peer acknowledged less than 8 KiB in the last 15 s.
//   - The response is aborted 5 minutes after it began, plus 1 s per 4 KiB of its size.
//
// On Linux, the kernel reports the acknowledged bytes of connections that a listener of
// [Guard.Harden] accepted. A sweep checks all deadlines once per second, including those of
// responses that net/http writes itself. On other systems and listeners, the guard measures
// progress by the data that the kernel accepts: at least 8 KiB in 30 s, or in 15 s over HTTP/2.
//
// # Connection limit and eviction
//
// Harden also limits the number of idle connections (Config.MaxIdle). An idle connection is one
// that carries no event stream. At the limit, a new connection evicts an idle connection, in this
// order:
//
//  1. unfinished: It has never sent a complete request.
//  2. idleLong: It has waited for its next request for over 5 s.
//  3. partial: It has sent only a part of the header or body of a later request.
//  4. lazy: Its peer acknowledged less than 32 KiB of the responses in the last 15 s.
//  5. idleOnce: It has sent one request, and waits for the next.
//  6. idleShort: It has sent several requests, and waits for the next. It may belong to a proxy. It
//     is spared while a connection of phase 1 or 3 exists that is too young to be evicted.
//
// Within a phase, the oldest connection is evicted first. A connection can be evicted after it has
// been in its phase for this time:
//
//	phase     usually   during a flood   during a flood, over TLS
//	1, 3, 5   1 s       50 ms            300 ms
//	2, 4      0         0                0
//	6         1 s       1 s              1 s
//
// If no connection can be evicted, the listener stops accepting until one can. New connections wait
// in the kernel's accept queue.
//
// A flood begins when a quarter of the limit, and at least 16 connections, were evicted within a
// second. It lasts 10 s.
//
// A connection is busy until the peer has acknowledged everything. [Conn.Close] ends it then, or
// when its time has passed. A busy connection is never evicted, unless it is lazy.
//
// # PROXY protocol
//
// With Config.ProxyProtocol, connections of trusted proxies begin with a PROXY header, which the
// first [Conn.Read] reads (proxied.go). Until it has arrived, the connection is unfinished, and
// counts toward no address.
//
// # Bursts of requests
//
// While there are more than 64 idle connections, the listener yields to their goroutines before it
// accepts more. Therefore, a burst of joins uses the memory of a few hundred requests, and not of
// MaxIdle requests.
//
// The guard never adds Connection: close to a response because the limit is near. If that header
// arrived too late, a proxy with a connection pool would respond to a POST with 502.
package guard
