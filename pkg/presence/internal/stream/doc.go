// Package stream carries shared events to sockets. It knows nothing of users. Above it is
// package hub, whose clients are connections of this package; below it is package socket, with the
// kernel's figures of a socket and its end.
//
// # The way of an event
//
// [Stream.Publish] gives the event a publish number and to an encoder: one of a few streams of
// r3labs/sse, one per core, with its only subscriber. r3labs/sse is kept by requirement of the
// project; it orders and encodes the events. Its delivery to clients does not hold up (encoder.go
// lists the reasons), so this package has its own: the encoder makes one frame of each event, and
// the fan-out writes its bytes to all connections of the Stream.
//
// A connection has one of two ways to its socket, which [Streams.Conn] chooses:
//
//   - direct: plain HTTP/1 on Linux, as between a reverse proxy and a container. The connection is
//     hijacked from net/http. A loop (one per core) writes to its descriptor without blocking, and
//     notices its end by epoll. It has no goroutine and no buffer.
//   - writer: TLS, HTTP/2, other systems, and connections that are more than a [net.TCPConn]. A
//     goroutine writes the events of a backlog, which a waker (one per core) fills.
//
// The answer to HTTP/1 is written by this package (http1.go): net/http hides the end of a
// half-closed connection behind bytes that follow the request, and the error of a broken one.
//
// A fan-out is divided into slices: no room waits for the whole fan-out of a larger one.
//
// # Guarantees
//
//   - Order: the events of a Stream reach each of its connections in the order of Publish. Between
//     two Streams there is no order.
//   - Start: a connection gets the events that are published after its [Stream.Attach], and none
//     from before, behind those that [Conn.Send] queued until then.
//   - Backpressure: Publish never blocks. [Stream.Reserve] holds publishers to the speed of the
//     fan-out; a slow consumer holds nobody.
//   - Slow consumers (promise 4): above Config.MaxUnsent bytes of shared events in its backlog, a
//     client must take 32 KiB per second; at 16 times as much it is disconnected. Below, and of its
//     replay, it must take something in 15 s. It gets a goodbye if it can still take one. An event
//     is in memory once, for however many backlogs.
//   - Whole events: a connection that the server ends, ends between two events, unless its client
//     takes nothing.
//   - After [Conn.End] a connection gets nothing but its backlog and a goodbye.
//   - Latest (promise 2): a backlog has at most one event of that kind, the newest.
//   - Liveness (promise 5): a connection that is closed, half-closed or reset has ended at once,
//     also when its client sent up to 16 KiB after its request; with more, it is disconnected. Over
//     HTTP/1 on Linux a client that vanished is disconnected within two heartbeats. A client that
//     pauses still acknowledges, and stays.
//
// # Files
//
// From bottom to top; a file uses only those above it in this list, except for loop_linux.go and
// direct_linux.go, which use each other.
//
//   - Types and rules: event.go, end.go, config.go, pace.go (slow consumers and liveness), chunk.go
//     and header.go (HTTP/1).
//   - An event on its way: frame.go, queue.go, batch.go, encoder.go (r3labs/sse).
//   - Goroutines and their fan-outs: inbox.go, yield_linux.go, yield_other.go, share.go, fanout.go.
//   - Connections: liveness.go, resources.go, conn.go, http1.go; writer: waker.go, writer.go;
//     direct: backlog_linux.go, direct_linux.go, loop_linux.go, loops_linux.go, loops_other.go.
//   - The face: stream.go, streams.go.
//
// What a delivery and a connection cost is measured by the benchmarks of package presence;
// docs/performance.md has the figures.
package stream
