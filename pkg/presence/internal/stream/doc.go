// Package stream carries shared events to sockets. It has never heard of
// users; of this module it knows the sockets below it (internal/socket) alone.
//
// The way of an event: [Stream.Publish] numbers it and puts it on one of a few
// streams of r3labs/sse, made at start. Each of these has one subscriber, its
// encoder, which takes the encoded bytes, frames them once for all, and hands
// the frame on to the connections of the [Stream] that it belongs to.
//
// A connection has one of two ways to its socket, which it chooses for itself:
//
//   - direct: plain HTTP/1 on Linux, which is what a reverse proxy speaks to a
//     container. The connection is taken out of net/http, and a loop (there is
//     one a core) writes to its descriptor without waiting and sees its end with
//     epoll. It has no goroutine and no buffer. Its files end in
//     _linux.go; begin with loop_linux.go.
//   - writer: TLS, HTTP/2, other systems, and connections that are more than a
//     [net.TCPConn]. A goroutine writes events from a bounded queue, which a waker
//     fills (one per core).
//
// Loops and wakers deliver events to the connections of many rooms in passes, which
// are divided into slices so that no room waits for the whole pass of a larger one (pass.go).
//
// Either way an answer of HTTP/1 is written by hand (http1.go), as net/http
// would not tell a half-closed connection from one on which a byte has come,
// nor what a connection died of.
//
// What it promises:
//
//   - Order: the events of a Stream reach each of its connections in the order
//     of Publish. Between two Streams there is no order.
//   - Place: a connection gets the events that are published after its
//     [Stream.Attach], none from before, after the events that it was told
//     alone until then. Its place is a publish number, so that what is still on its way
//     when it comes does not reach it a second time.
//   - Nobody waits for a reader: Publish never blocks. A connection for which more
//     than MaxUnsent bytes wait and that takes next to nothing for a second is
//     sent away, and so is one for which sixteen times as much waits; with a
//     goodbye, if it can still take one (promise 4). A copy of an event is kept
//     for nobody: what waits for a thousand connections is in memory once.
//     A connection for which less waits, in the kernel too, must take something
//     in 15 s.
//   - Frames are whole: a connection that ends by the server's will ends
//     between two events, unless its client takes nothing even then.
//   - After [Conn.End] nothing more is taken for a connection.
//   - The newest alone: of events published with Latest, one at most waits for
//     a connection, and it stands at the end of what waits (promise 2).
//   - Ends: a peer that closes, half-closes or resets is noticed at once, what
//     it has sent after its request notwithstanding, up to 16 KiB, after which
//     it is sent away. One that vanishes is noticed within two heartbeats, on
//     Linux, over HTTP/1, by its pulse (pulse.go), which a client that pauses
//     still has (promise 5).
//
// [Stream.Reserve] is what holds back those who publish faster than the
// connections are served; a connection that has stopped reading holds nobody
// back.
//
// What a delivery and a connection cost is measured by the benchmarks of
// package presence; docs/performance.md has the figures.
package stream
