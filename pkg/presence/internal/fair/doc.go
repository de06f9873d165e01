// Package fair shares limited resources among the users, so that no user can take them from the
// others. It is plain data and arithmetic: it knows no room, no connection and no socket.
//
//   - [Ranking] orders holders by how much they hold, the largest first.
//   - [Accounts] ranks holders, and for each holder the places in which it holds something.
//   - [Budget] limits the holdings of all users together, and keeps a part free for newcomers.
package fair
