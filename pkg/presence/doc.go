// Package presence is a presence broadcaster: an [http.Handler] whose GET /events opens a stream of
// Server-Sent Events, counts the client, and sends the new number to every client of the room.
//
//	server, err := presence.New(presence.Config{Authenticator: mine})
//	router.Mount("/presence", server)
//	h := &http.Server{Handler: router}
//	err = h.Serve(server.Harden(h, listener))
//
// # Files
//
// This package is the HTTP face of a server: it authenticates, authorizes and answers. The live rooms
// are in internal/hub, which takes an authenticated user. Each file uses those above it in this list
// only:
//
//   - types.go: names for the types of the packages below
//   - config.go: settings, their defaults and bounds
//   - problem.go: errors, and the answer to each (RFC 9457)
//   - limits.go: message rates of users
//   - path.go, query.go: the path below the mount point, and the parameters
//   - page.go: the files of the page
//   - origin.go: the origins whose pages may use the cookie
//   - server.go: the Server
//   - access.go: who a request comes from, and what it may do, for all handlers
//   - body.go, cookie.go: the body of a request, the session cookie
//   - events.go, messages.go, members.go, rooms.go, session.go: the handlers, and the methods of a
//     Server that do the same for a Go program
//   - routes.go: New, the routes, Shutdown
//
// Beside it stand auth (tokens and keys) and internal/guard (deadlines and limits of requests and
// connections that are no streams). Below the hub stand room (presence as data), backplane (the engine
// that nodes share) and internal/stream (bytes to sockets).
//
// What a client may rely on, by the numbers that the tests bear too:
//
//  1. After a second of quiet the last user count that every client holds is
//     the true number: there is no ghost in it, and it is never negative.
//  2. No count waits behind an older one. Counts are coalesced: the first
//     goes at once, then at most one per flush interval. That is Config.Coalesce or
//     eight times what the last count took to reach the clients, whichever is longer; the
//     eightfold is at most 250 ms in a room that sends members, 750 ms in one that
//     sends counts only. A joiner gets its sync and count at once in a room that sends
//     counts only, in a quiet room, and where its user is a member already, its sync is at most
//     4 KiB and no member change waits; else at the end of the interval. It may get the number that
//     it holds again, never an older one. Messages are never merged, dropped or reordered.
//  3. A message that was answered with 202 reaches every client of the room
//     that stays connected, and every one that comes back with the id that it
//     holds while the messages since are in the history: once and in order. Else
//     it is told reset.
//  4. A client that stops reading delays nobody, and is sent away, as
//     Config.MaxUnsent says.
//  5. A client that vanishes without a word is found by the next ping that it
//     does not acknowledge, within two heartbeats: on Linux, over HTTP/1, and with
//     [Server.Harden] over HTTP/2, where the reason of such a leave is closed.
//     Without Harden set [http.HTTP2Config].WriteByteTimeout. A host's listener does better without Multipath
//     TCP ([net.ListenConfig.SetMultipathTCP]), whose sockets do not say as much.
//     A half-closed connection has ended.
//  6. A room of more than Config.MemberLimit members tells counts only, until
//     there are 80 % of it, 10 s after the last crossing at the earliest.
//  7. A token that expires ends its stream, which was told 30 s before, unless
//     it was renewed.
//  8. Shutdown says goodbye to every client after all that was accepted has
//     reached it, and loses no message.
//
// A user that has left stays a member for Config.Linger, so that a reload is
// no leave and no join.
package presence
