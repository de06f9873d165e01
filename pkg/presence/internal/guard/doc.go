// Package guard bounds what clients can hold with requests that are not event
// streams: connections, memory and time. The face uses it for every request;
// it knows no rooms and no users.
//
// Handlers begin with [Guard.Begin], which gives each request its deadlines:
//
//   - A request body must arrive within 10 s.
//   - An answer ends when the peer acknowledged less than 8 KiB in the last 15 s,
//     and 5 minutes plus 1 s per 4 KiB of its size after it began.
//
// How much a peer acknowledged is known on Linux for the connections of a
// listener of [Guard.Harden]. There a sweep looks at all of them once a second,
// the answers that net/http writes by itself included. Elsewhere progress is
// what the kernel accepts: at least 8 KiB in 30 s, or 15 s over HTTP/2.
//
// Harden also bounds the connections themselves. A connection is in one of
// these phases, and at the limit a newcomer evicts one, in this order:
//
//  1. unfinished: it never sent a whole request; for a second at least, or 50 ms
//     in a flood (300 ms with TLS)
//  2. idle for over 5 s, the longest first
//  3. partial: in the middle of a later request's header or body; for as long
//  4. lazy: it took less than 32 KiB of its answers in the last 15 s
//  5. idle after its only request; for a second, or 50 ms in a flood
//  6. idle for over a second after several, as a proxy's may be; not while
//     another is about to be of the phases 1 or 3
//
// If there is none the newcomer waits in the accept queue. A connection counts
// as busy, not idle, until the peer has acknowledged everything; only then does
// [Conn.Close] end it. A connection that carries an event stream is not counted.
//
// While more than a few connections carry no stream, accepting yields to them: the
// memory of a storm of joins is then that of some hundred requests, not MaxIdle.
//
// Connection: close is never announced because the limit is near: a proxy with
// a pool of connections answers 502 to a POST when that comes too late.
package guard
