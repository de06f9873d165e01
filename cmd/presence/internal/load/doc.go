// Package load opens many event streams against a server, sends messages to their rooms, and
// measures the events that the clients receive. It is the engine of the command presence load.
//
// A run has four phases: ramp (the clients connect), steady (messages and churn), drain (the last
// messages arrive) and the check of the user counts. [Run] returns a [Report] of all of them.
//
// # Load
//
// The clients are divided among a few loops, one per core. A loop owns its clients. On Linux and
// over plain HTTP, the sockets of a loop are in one epoll instance, which the loop reads itself.
// Otherwise, each connection has a goroutine. Each client uses HTTP/1.1 and a connection of its
// own.
//
// Like an EventSource, a client whose stream ends connects again after the retry time of the server
// (3 s without one), with the last event id. Unlike an EventSource, it also does so after a
// response with status 408, 429 or 5xx, at the earliest after its Retry-After. Any other status
// ends the client.
//
// # Exactness
//
// The messages of a room are numbered from 1 and are sent one after the other: the next one only
// after the server has accepted the last one. Each client follows the numbers of its room:
//
//   - A number that is missing before a later one, or at the end, is lost.
//   - A number that arrives after a later one is out of order, and not lost.
//   - A number that arrives again is duplicated.
//
// A client must receive the messages whose request began after its stream was open: after the event
// sync of presence, the push connect of Centrifugo, or else the response header. A client that
// resumes must receive all messages after its last one. After a reset, it must receive those after
// the reset. If the outcome of a request is unknown, and the target has no idempotency key for a
// second one, no client must receive its message.
//
// This includes the clients that read slowly or not at all. In the drain phase, they read at full
// speed.
//
// # Times
//
// All times are those of this process. Join to open is the time from connect(2) until the stream is
// open. Join to count is the time from connect(2) to the first user count, or, with Centrifugo, to
// the first join event. Both are those of the ramp phase. Send to receipt is the time from the
// start of the request that sends a message to the read(2) that returned it, in the steady phase,
// without the clients that read slowly or not at all, and without messages sent before the
// connection of the client.
//
// # Files
//
// Bottom-up:
//
//	config.go       settings, limits
//	addresses.go    addresses of the server
//	message.go      text of a numbered message
//	sequence.go     numbers that one client has received
//	decoder.go      HTTP/1.1 response and event stream, as bytes arrive
//	target.go       requests and events of each kind of server
//	stats.go        counters and histograms
//	usage.go        CPU time and memory of processes: processes.go, process_linux.go
//	room.go         numbers that were sent to a room
//	shared.go       state that all goroutines share
//	client.go       one client: decoder and sequence, and the end of a stream
//	loop.go         clients of one core: connects, churn, retries
//	epoll_linux.go  sockets in one epoll instance: ports_linux.go
//	conns.go        sockets with a goroutine each
//	sender.go       sends the messages of a room
//	report.go       result
//	measurement.go  phases
//	run.go          start and end of a run
package load
