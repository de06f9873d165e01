// Package presence is a presence broadcaster: an [http.Handler] whose GET /events opens a stream of
// Server-Sent Events, counts the client, and sends the new number to every client of the room.
//
//	server, err := presence.New(presence.Config{Authenticator: mine})
//	router.Mount("/presence", server)
//	h := &http.Server{Handler: router}
//	err = h.Serve(server.Harden(h, listener))
//
// Guarantees; the tests bear the same numbers:
//
//  1. After one second of quiet, the last user count that every client holds is the true number. It
//     has no ghosts and is never negative.
//  2. A count is never queued behind older counts. The first goes out at once, then at most one per
//     flush interval: Config.Coalesce, or eight times the duration of the last fan-out, whichever
//     is longer. The eightfold is at most 250 ms in a room that sends members, 750 ms in one that
//     sends counts only. A joiner gets its sync and count at once in a room that sends counts only,
//     in a quiet room, and where its user is a member already, the sync has at most 4 KiB and no
//     member change waits; else at the end of the interval. A client may get the number that it
//     holds again, never an older one. Messages are never merged, dropped or reordered.
//  3. A message that was answered with 202 reaches every client of the room that stays connected,
//     once and in order, and every client that resumes while the message is in the history. Other
//     clients that resume get reset.
//  4. A slow consumer delays nobody. It is disconnected as Config.MaxUnsent says.
//  5. A client that vanishes without a word is out within two heartbeats: on Linux, over HTTP/1,
//     and with [Server.Harden] over HTTP/2, where the reason of its leave is closed. Without Harden
//     set [http.HTTP2Config].WriteByteTimeout. A half-closed connection has ended. Sockets of
//     Multipath TCP tell less: a host's listener turns it off ([net.ListenConfig.SetMultipathTCP]).
//  6. A room above Config.MemberLimit members sends counts only, until 80 % of the limit, 10 s
//     after the last crossing at the earliest.
//  7. A token that expires ends its stream, with a notice 30 s before, unless it was renewed.
//  8. Shutdown sends goodbye to every client after all accepted messages, and loses none.
//
// A user whose last connection ended stays a member for the grace period, Config.Linger, so that a
// reload is no leave and no join.
package presence

// This package is the HTTP face of a server: it authenticates, authorizes and answers. The live
// rooms are in internal/hub, which takes an authenticated user. Each file uses those above it in
// this list only:
//
//   - types.go: names for the types of the packages below
//   - config.go: settings, their defaults and bounds
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
// Beside it stand auth (tokens and keys) and internal/guard (deadlines and limits of requests and
// connections that are no streams). Below the hub stand room (presence as data), backplane (the
// engine that nodes share) and internal/stream (bytes to sockets).
