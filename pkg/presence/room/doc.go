// Package room keeps the presence of one room as plain data: its members and connections. It also
// defines the types that all packages share: names, positions, messages and patterns.
//
// An importer of package presence needs it only for these types, and for [Patterns] and [ErrName].
//
// A change depends only on the room and on the current time, which the caller passes. The package
// uses no lock, goroutine, clock or socket, so its tests need none. The owner of a [Room] must
// serialise the calls. The package imports only internal/input and internal/index from this module.
//
// Terms:
//
//   - Connection: one open stream of a user. A user may have several, for example one per tab.
//   - Member: a user with an open connection, or a user in its grace period.
//   - Grace period (Config.Linger): the time for which a user remains a member after its last
//     connection has closed.
//   - News: the changes since the last call of [Room.News].
//   - Member limit (Config.MemberLimit): in a room with more members, clients receive counts
//     instead of changes.
//
// Guarantees:
//
//   - Counts are the sizes of two sets: the open connections and the members. Each member has the
//     set of its connections. A count changes only if one of these sets reports a change, so it
//     cannot drift or become negative (promise 1).
//   - A user whose last connection has closed remains a member with 0 connections until its grace
//     period ends. Therefore a page reload causes no leave and no join.
//   - Changes are pending until [Room.News] returns them. Changes that cancel out before then are
//     omitted. The other changes keep their order.
//   - Above the member limit, a room sends only counts (promise 6).
package room
