// Package presence is a self-hosted presence server. It counts the clients of each room over
// Server-Sent Events and sends every change to all of them.
//
// A [Server] is an [http.Handler]. GET /events opens a stream in a room and counts the client. Each
// client of the room receives the new count, the joins and leaves of members, and the messages. The
// requests and events are described in docs/protocol.md and docs/openapi.yaml.
//
// # Usage
//
// Implement an [Authenticator], or use package auth to authenticate with JSON Web Tokens. Mount the
// server in any router, at the root or under a prefix, and let it harden the http.Server:
//
//	server, err := presence.New(presence.Config{Authenticator: users})
//	router.Mount("/presence", server)
//	h := &http.Server{Handler: router}
//	err = h.Serve(server.Harden(h, listener))
//
// The methods of the Server publish messages, list rooms and members, and remove users:
//
//	id, err := server.Publish(ctx, "doc-1", "saved", map[string]int{"version": 7})
//	members, err := server.Members(ctx, "doc-1")
//	rooms, err := server.Rooms(ctx)
//	err = server.Kick(ctx, "doc-1", "mallory", time.Hour)
//	stats := server.Stats()
//
// To stop, call [Server.Shutdown] first, and then shut down the http.Server:
//
//	err = server.Shutdown(ctx)
//	err = h.Shutdown(ctx)
//
// # Guarantees
//
// The names of the tests contain the numbers of these promises, such as Promise3:
//
//  1. True counts. After one second without a change, the last user count that each client holds is
//     the true number. It includes no vanished client and is never negative.
//  2. Bounded delay. A count is never queued behind older counts. After a change, a room sends the
//     first count immediately, and then at most one per flush interval. Messages are never merged,
//     dropped or reordered.
//  3. Messages. A message that was accepted with 202 reaches every client of the room that stays
//     connected, once and in order. It also reaches every client that resumes while the message is
//     in the history. A client that resumes later receives reset.
//  4. Slow consumers. A slow consumer delays no other client. The server disconnects it as
//     described at Config.MaxUnsent.
//  5. Liveness. A client that vanishes without closing its connection is no longer counted after
//     two heartbeats. A half-closed connection counts as closed. See "Vanished clients".
//  6. Large rooms. A room of more than Config.MemberLimit members sends counts only. It sends
//     members again when it has shrunk to 80 % of the limit, but not within 10 s after it last
//     crossed the limit.
//  7. Tokens. When a token expires, its stream ends, unless the token was renewed. The client
//     receives a notice 30 s before.
//  8. Shutdown. Shutdown delivers all accepted messages, and then sends goodbye to every client. No
//     accepted message is lost.
//  9. Fair limits. A user alone uses at most half of the memory for the unsent snapshots and replays
//     of slow clients, and a room with a backlog keeps a share of the memory for events. At a limit,
//     stalled clients are disconnected first, those of the user that holds most before others. The
//     cost of the requests of each user is limited, see Config.CostRate.
//
// # Flush interval
//
// The flush interval of promise 2 is Config.Coalesce, or eight times the duration of the last
// fan-out, whichever is longer. The second value is at most 250 ms in a room that sends members,
// and at most 750 ms in a room that sends counts only.
//
// A joiner receives its sync and count immediately if one of these conditions holds, and otherwise
// at the end of the flush interval:
//
//   - the room sends counts only;
//   - the room is idle;
//   - the joiner's user is already a member, no member change is pending, and the sync is at most
//     4 KiB.
//
// A client may receive the same count twice, but it never receives an older count.
//
// # Grace period
//
// After its last connection closes, a user stays a member for the grace period, Config.Linger. A
// page reload therefore causes no leave and no join.
//
// # Vanished clients
//
// Promise 5 holds on Linux over HTTP/1. With [Server.Harden] it also holds over HTTP/2. Without
// Harden, set [http.HTTP2Config].WriteByteTimeout; the leave then has the reason closed. Multipath
// TCP sockets provide less information, so disable Multipath TCP at the listener with
// [net.ListenConfig.SetMultipathTCP].
//
// Over a Unix socket, the kernel reports the end of the peer immediately. A frozen peer, which
// reads none of its events for 15 s or a heartbeat, whichever is longer, is a slow consumer.
//
// # Concurrency
//
//   - The methods of a Server are safe for concurrent use.
//   - The Authenticator is called by many goroutines concurrently.
//   - The hooks Config.OnMessage, OnJoin and OnLeave are called one at a time, and no lock is held
//     during a call. A slow hook delays no client.
//   - A hook must not wait for Shutdown, because Shutdown waits for the hooks.
//   - After Shutdown, the only goroutines left are those of the connections of Harden, which end
//     with their connections.
//
// # Errors
//
// New returns a [ConfigError] for an invalid field. The methods of a Server wrap the errors of this
// package, such as [ErrDraining] and [ErrNotInRoom], so test for them with errors.Is.
package presence

// This package is the HTTP layer of the server: it authenticates and authorizes requests, and
// writes responses. Package internal/hub manages the live rooms and knows only authenticated users.
// Each file uses only the files above it in this list:
//
//   - types.go: names for the types of the packages below
//   - config.go: settings, their defaults and limits
//   - problem.go: errors and their HTTP responses (RFC 9457)
//   - proxies.go: the address of a client behind proxies
//   - limits.go: the rates of the users
//   - pagecache.go: encoded pages of members
//   - path.go, query.go: the path below the mount point, and the query parameters
//   - page.go: the files of the page
//   - origin.go: the origins whose pages may use the cookie
//   - host.go: the hosts that requests may name
//   - server.go: the Server
//   - request.go: the log lines about a request
//   - cookie.go: the session cookie
//   - access.go: authentication and authorization, for all handlers
//   - body.go: the request body
//   - events.go, messages.go, bans.go, members.go, history.go, rooms.go, session.go: the handlers,
//     and the methods of a Server that provide the same to a Go program
//   - routes.go: New, the routes and Shutdown
//
// Two packages are on the same level: auth (tokens and keys) and internal/guard (deadlines and
// limits of requests and connections that are not streams). Three packages are below the hub: room
// (presence as data), backplane (the engine that nodes share) and internal/stream (the delivery of
// bytes to sockets).
