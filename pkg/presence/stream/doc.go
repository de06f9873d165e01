// Package stream carries shared events to sockets. It has never heard of
// users, and it knows no other package of this module.
//
// The way of an event: [Stream.Publish] numbers it and puts it on one of a few
// streams of r3labs/sse, made at start. Each of these has one subscriber, its
// encoder, which takes the encoded bytes and hands them to every connection of
// the [Stream] they belong to. A connection brings them to its socket by
// itself.
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
//     goodbye, if it can still take one (promise 4).
//   - Frames are whole: a connection that ends by the server's will ends
//     between two events, unless its client takes nothing even then.
//   - After [Conn.End] nothing more is taken for a connection.
//   - The newest alone: of events published with Latest, one at most waits for
//     a connection, and it stands at the end of what waits (promise 2).
//
// [Stream.Reserve] is what holds back those who publish faster than the
// connections are served; a connection that has stopped reading holds nobody
// back.
package stream
