// Package room keeps the presence of one room as plain data: its members and connections, and the
// types that all packages share (names, positions, messages, patterns). Every change is a function
// of the room and of a now that the caller passes. So there is no lock, goroutine, clock or socket
// in it, and it is tested like arithmetic. The owner of a [Room] serialises the calls. Of this
// module it knows the rules of internal/input only.
//
// Guarantees:
//
//   - Numbers are the sizes of sets, never sums kept by hand: the set of open connections, the set
//     of members. They cannot drift or fall below zero (promise 1). A member's own number changes
//     with the first set.
//   - A user whose last connection ended stays a member, with no connections, until its grace
//     period has ended. A reload is no leave and no join.
//   - Changes are pending until [Room.News] returns them. Those that cancel out before that are
//     left out; the others keep their order.
//   - Above the member limit a room sends counts only (promise 6).
package room
