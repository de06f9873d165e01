// Package room keeps who is in a room. It is plain data: every change is a
// function of the room and of a now that is handed in, so there is no lock, no
// goroutine, no clock and no socket in here, and it is tested like arithmetic.
// It knows no other package of this module.
//
// What it promises:
//
//   - The numbers told are the sizes of sets, never sums kept by hand: the set
//     of open connections, the set of members. Neither can drift or fall below
//     zero (promise 1). A member's own connections change with the first set.
//   - A user whose last connection ended lingers: it stays a member, with no
//     connections, until the linger time has passed without its return. A
//     reload is no leave and no join.
//   - Changes wait in the room until they are taken by [Room.News]. Those that
//     cancel out before that are not told at all; the order of the rest holds.
//   - Above the member limit the room tells counts only (promise 6).
//   - What a client missed is told whole and in order, or not at all: a
//     [History] holds of each room a run without a gap up to its last message
//     (promise 3).
//   - Nothing grows without a bound: not a History, nor the [Retries] that know
//     a message that is sent again, nor the [Bans].
//
// Each of these belongs to one owner, which serialises the calls.
package room
