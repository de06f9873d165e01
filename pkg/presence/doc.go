// Package presence tells who is here, as it happens: an [http.Handler] whose
// GET /events opens a stream of Server-Sent Events, counts the client in, and
// tells everybody in the room the new number.
//
//	server, err := presence.New(presence.Config{Authenticator: mine})
//	router.Mount("/presence", server)
//	h := &http.Server{Handler: router}
//	err = h.Serve(server.Harden(h, listener))
//
// Where things are: server.go has the routes and the life of a Server;
// events.go the way of a client from its request to the end of its stream;
// counter.go the one place where it is counted, under one mutex per room, and
// where the joins of a flush interval become one count; messages.go the way of a message;
// wire.go what each event carries; members.go and rooms.go who is where, and
// their removal; session.go the cookie; origin.go whose pages may use it; query.go
// the parameters; page.go the files; connections.go the open streams of all
// rooms, which end with their tokens; memory.go what was said and who was
// removed; limits.go how fast one may send; internal/guard what requests that are
// no streams may hold; problem.go what a client is told that asks
// for something it cannot have. Below stand auth (who asks), room (who is here,
// plain data) and stream (bytes to sockets); they know nothing of each other.
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
//
// Locks are taken in this order, and none is held over a write or a hook: that
// of the rooms, a counter's, that of the connections, then those that hold no
// other: of memory, rates, hooks, and all of stream.
package presence
