// Package stream delivers shared events to sockets. It has no notion of users: package hub, above
// it, maps users to its connections. Package socket, below it, returns the kernel's TCP statistics
// for a socket and closes it.
//
// # The path of an event
//
//	                 r3labs/sse           bytes, once         ┌─► loop  ─► direct ─► socket
//	Stream.Publish ─► encoder ───► frame ───► fan-out ────────┤
//	 (number)        one per core                             └─► waker ─► writer ─► socket
//
// [Stream.Publish] assigns a publish number to the event and adds the event to the inbox of an
// encoder. An encoder is a stream of r3labs/sse with a single subscriber. There is one encoder per
// core. The project requires r3labs/sse, which orders and encodes the events. However, its delivery
// to clients has flaws (encoder.go lists them), so this package delivers the events itself. The
// encoder makes one frame per event, and the fan-out writes the bytes of the frame to all
// connections of the Stream.
//
// [Streams.Conn] chooses the sink of a connection:
//
//	sink    used for                             how it writes
//	direct  plain HTTP/1 on Linux, for example   The connection is hijacked from net/http. A loop
//	        from a reverse proxy to a container  (one per core) writes to its descriptor without
//	                                             blocking, and detects its end with epoll. The
//	                                             connection has no goroutine and no buffer. If
//	                                             many connections get the same events, the loop
//	                                             sends to a group of them with one system call
//	                                             (package uring).
//	writer  TLS, HTTP/2, other systems, types    A goroutine writes the events of a backlog.
//	        that wrap a connection               A waker (one per core) fills the backlog.
//
// This package writes HTTP/1 responses itself (http1.go), because net/http hides two ways in which
// a connection ends. It does not report a half-closed connection if bytes follow the request, and
// it drops the error of a broken connection.
//
// A fan-out is split into slices, so that no room waits for the whole fan-out of a larger room.
//
// # Guarantees
//
//   - Order: the events of a Stream reach each of its connections in the order of Publish. There is
//     no order between two Streams.
//   - Start: a connection receives exactly the events that are published after its [Stream.Attach].
//     Events that were queued by [Conn.Send] before the Attach are written first.
//   - Backpressure: Publish never blocks. [Stream.Reserve] limits publishers to the speed of the
//     fan-out. A slow consumer delays no publisher and no other client.
//   - Slow consumers (promise 4): while a backlog holds more than Config.MaxUnsent bytes of shared
//     events, its client must read 32 KiB per second. A client whose backlog exceeds 16 times
//     MaxUnsent is disconnected. With a smaller backlog, or during a replay, the client must read
//     at least one byte in 15 s. A slow consumer receives a goodbye if it can still read one.
//     pace.go lists all rules in a table. An event is in memory once, however many backlogs hold
//     it.
//   - Whole events: the server ends a connection only between two events. Exceptions are a client
//     that does not read its goodbye in time, one whose backlog reaches its hard limit during a
//     replay, and one whose snapshot exceeds the budget of all snapshots.
//   - End: after [Conn.End], a connection receives only its backlog and a goodbye.
//   - Latest (promise 2): a backlog holds at most one event of kind [Latest], which is the newest.
//   - Liveness (promise 5): a connection that is closed, half-closed or reset ends immediately.
//     This holds even if the client sent up to 16 KiB after its request. A client that sends more
//     is disconnected. Over HTTP/1 on Linux, a vanished client is disconnected within two
//     heartbeats. A client that pauses still acknowledges data, and stays connected.
//
// # Files
//
// Each file uses only files that this list names before it, except that loop_linux.go and
// direct_linux.go use each other.
//
//   - Types and rules: event.go, end.go, config.go, pace.go (slow consumers and liveness), chunk.go
//     and header.go (HTTP/1).
//   - The path of an event: frame.go, queue.go, batch.go, encoder.go (r3labs/sse).
//   - Goroutines and their fan-outs: tally.go, inbox.go, yield_linux.go, yield_other.go,
//     share.go, unsent.go, fanout.go.
//   - Connections: liveness.go, rings.go, resources.go, conn.go, http1.go; writer: waker.go, writer.go;
//     direct: backlog_linux.go, ringsends_linux.go, direct_linux.go, loop_linux.go, loops_linux.go, loops_other.go.
//   - API: stream.go, streams.go.
//
// The benchmarks of package presence measure the cost of a delivery and of a connection.
// docs/performance.md has the results.
package stream
