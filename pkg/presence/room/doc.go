// Package room keeps the presence of one room as plain data: its members and its connections. It
// also defines the types that all packages share: names, positions, messages and patterns.
//
// Every change is a function of the room and of a now that the caller passes. There is no lock,
// goroutine, clock or socket, so the package is tested like arithmetic. The owner of a [Room]
// serialises the calls. Of this module the package imports internal/input only.
//
// Terms:
//
//   - Connection: one open stream of a user. A user may have several, for example one per tab.
//   - Member: a user with an open connection, or in its grace period.
//   - Grace period (Config.Linger): the time that a user stays a member after its last connection
//     has ended.
//   - News: the changes since the last call of [Room.News].
//   - Member limit (Config.MemberLimit): above it, clients receive counts instead of changes.
//
// Guarantees:
//
//   - Counts are the sizes of two sets, the open connections and the members. They are never sums
//     kept by hand, so they cannot drift or fall below zero (promise 1). Member.Connections changes
//     together with the set of connections.
//   - A user whose last connection ended stays a member with 0 connections until its grace period
//     ends. A reload causes no leave and no join.
//   - Changes are pending until [Room.News] returns them. Changes that cancel out before that are
//     left out. The rest keep their order.
//   - Above the member limit a room sends counts only (promise 6).
package room
