// Package presence is a self-hosted presence server. It counts the clients of each room over
// Server-Sent Events and sends every change to all of them.
//
// A [Server] is an [http.Handler]. GET /events opens a stream in a room and counts its client. Each
// client of the room receives the new count, the joins and leaves of members, and messages. The
// requests and events are in docs/protocol.md and docs/openapi.yaml.
//
// # Usage
//
// Implement an [Authenticator], or use the JSON Web Tokens of package auth. Mount the server in any
// router, at the root or under a prefix, and let it harden the http.Server:
//
//	server, err := presence.New(presence.Config{Authenticator: users})
//	router.Mount("/presence", server)
//	h := &http.Server{Handler: router}
//	err = h.Serve(server.Harden(h, listener))
//
// The program publishes and administers with the methods of the Server:
//
//	id, err := server.Publish(ctx, "doc-1", "saved", map[string]int{"version": 7})
//	members, err := server.Members(ctx, "doc-1")
//	rooms, err := server.Rooms(ctx)
//	err = server.Kick(ctx, "doc-1", "mallory", time.Hour)
//	stats := server.Stats()
//
// It stops in this order: [Server.Shutdown] first, the http.Server second.
//
//	err = server.Shutdown(ctx)
//	err = h.Shutdown(ctx)
//
// # Guarantees
//
// The tests have the same numbers, such as Promise3:
//
//  1. True counts. After one second of quiet, the last user count that every client holds is the
//     true number. It contains no vanished client and is never negative.
//  2. Bounded delay. A count is never queued behind older counts. The first one is sent at once,
//     then at most one per flush interval. Messages are never merged, dropped or reordered.
//  3. Messages. A message that was answered with 202 reaches every client of the room that stays
//     connected, once and in order. It also reaches every client that resumes while the message is
//     in the history. Other clients that resume receive reset.
//  4. Slow consumers. A slow consumer delays no other client. It is disconnected as described at
//     Config.MaxUnsent.
//  5. Liveness. A client that vanishes without closing its connection is not counted after two
//     heartbeats. A half-closed connection has ended. See "Vanished clients".
//  6. Large rooms. A room of more than Config.MemberLimit members sends counts only. It sends
//     members again at 80 % of the limit, but not within 10 s of the last crossing.
//  7. Tokens. A token that expires ends its stream, with a notice 30 s before, unless it is
//     renewed.
//  8. Shutdown. Shutdown delivers all accepted messages, loses none, and then sends goodbye to
//     every client.
//
// # Flush interval
//
// The flush interval of promise 2 is Config.Coalesce, or eight times the duration of the last
// fan-out, whichever is longer. The second value is at most 250 ms in a room that sends members,
// and at most 750 ms in a room that sends counts only.
//
// A joiner receives its sync and count at once in these cases, and otherwise at the end of the
// interval:
//
//   - the room sends counts only;
//   - the room is quiet;
//   - its user is a member already, no member change is pending, and the sync has at most 4 KiB.
//
// A client may receive the count that it already holds again, but never an older one.
//
// # Grace period
//
// A user whose last connection ended stays a member for the grace period, Config.Linger. A page
// reload therefore causes no leave and no join.
//
// # Vanished clients
//
// Promise 5 holds on Linux over HTTP/1. It also holds over HTTP/2 with [Server.Harden]; the reason
// of that leave is closed. Without Harden set [http.HTTP2Config].WriteByteTimeout. Sockets of
// Multipath TCP provide fewer figures: turn it off at the listener with
// [net.ListenConfig.SetMultipathTCP].
//
// # Concurrency
//
//   - The methods of a Server are safe for concurrent use.
//   - The Authenticator is called by many goroutines at once.
//   - The hooks Config.OnMessage, OnJoin and OnLeave are called one at a time, while no lock is
//     held. A slow hook delays no client.
//   - A hook must not wait for Shutdown, because Shutdown waits for the hooks.
//   - A Server has no goroutine after Shutdown, except those of the connections of Harden, which
//     end with their connections.
//
// # Errors
//
// New returns a [ConfigError] for an invalid field. The methods of a Server wrap the errors of this
// package, such as [ErrDraining] and [ErrNotInRoom]: test them with errors.Is.
package presence

// This package is the HTTP face of a server: it authenticates, authorizes and answers. The live
// rooms are in internal/hub, which takes an authenticated user. Each file uses only the files above
// it in this list:
//
//   - types.go: names for the types of the packages below
//   - config.go: settings, their defaults and limits
//   - problem.go: errors, and the answer to each (RFC 9457)
//   - limits.go: message rates of users
//   - path.go, query.go: the path below the mount point, and the parameters
//   - page.go: the files of the page
//   - origin.go: the origins whose pages may use the cookie
//   - server.go: the Server
//   - access.go: authentication and authorization, for all handlers
//   - body.go, cookie.go: the body of a request, the session cookie
//   - events.go, messages.go, members.go, rooms.go, session.go: the handlers, and the methods of a
//     Server that do the same for a Go program
//   - routes.go: New, the routes, Shutdown
//
// Two packages are on the same level: auth (tokens and keys) and internal/guard (deadlines and
// limits of requests and connections that are not streams). Three packages are below the hub: room
// (presence as data), backplane (the engine that nodes share) and internal/stream (bytes to
// sockets).
